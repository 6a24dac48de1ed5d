//! The stores beside the rows: Qdrant and Neo4j, each where its URL is set. Where no URL is set at all, both are in the
//! embedded file.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{
    Applied, Counts, Fault, FaultClass, Kept, Looked, Marked, Seen, Store, StoreSet, Write, check_mark,
};
use chunk_sync_model::document::Fingerprint;
use chunk_sync_model::{Limits, State, Target};
use uuid::Uuid;

use super::rows::Rows;
use crate::config::{Address, Neo4j, Qdrant, Roles};

/// A store, open.
pub(super) struct OpenStore {
    pub(super) store: Arc<dyn Store>,
    /// The server, where it is one.
    pub(super) marked: Option<Arc<dyn Marked>>,
}

pub(super) fn open(roles: &Roles, rows: &Rows, limits: &Arc<Limits>) -> Result<Vec<OpenStore>, Fault> {
    if let Some(file) = rows.file.as_ref().filter(|_| roles.is_embedded()) {
        let stores: [Arc<dyn Store>; 2] = [Arc::clone(&file.vectors) as _, Arc::clone(&file.graph) as _];
        return Ok(stores.map(|store| OpenStore { store, marked: None }).into());
    }
    let mut stores = Vec::new();
    if let Some(server) = &roles.qdrant {
        stores.push(server_store(QdrantStore::new(&qdrant(server, limits, roles.allow_insecure))?));
    }
    if let Some(server) = &roles.neo4j {
        stores.push(server_store(Neo4jStore::new(&neo4j(server, roles.allow_insecure)?)?));
    }
    Ok(stores)
}

fn server_store<S: Store + Marked + 'static>(store: S) -> OpenStore {
    let store = Arc::new(store);
    OpenStore { store: Arc::clone(&store) as _, marked: Some(store) }
}

/// The set of stores that the configuration names.
pub(super) fn named(roles: &Roles) -> StoreSet {
    let kept = if roles.is_embedded() { Kept::Embedded } else { Kept::Server };
    let has = |target| match target {
        Target::Postgres => false,
        Target::Qdrant => roles.qdrant.is_some() || roles.is_embedded(),
        Target::Neo4j => roles.neo4j.is_some() || roles.is_embedded(),
    };
    StoreSet(Target::ALL.into_iter().filter(|target| has(*target)).map(|target| (target, kept)).collect())
}

pub(super) fn qdrant(qdrant: &Qdrant, limits: &Arc<Limits>, allow_insecure: bool) -> QdrantConfig {
    QdrantConfig {
        api_key: qdrant.api_key.clone(),
        collection: qdrant.collection.clone(),
        allow_insecure,
        ..QdrantConfig::new(qdrant.url.expose(), Arc::clone(limits))
    }
}

pub(super) fn neo4j(neo4j: &Neo4j, allow_insecure: bool) -> Result<Neo4jConfig, Fault> {
    if !(allow_insecure || neo4j.url.expose().contains("+s://") || is_loopback(&neo4j.url)) {
        let message = format!("{} is another machine: write bolt+s or neo4j+s, or set allow_insecure", neo4j.url);
        return Err(Fault::new(FaultClass::Misconfigured, "neo4j", message));
    }
    Ok(Neo4jConfig {
        url: neo4j.url.expose().to_owned(),
        user: neo4j.user.clone(),
        password: neo4j.password.clone().unwrap_or_default(),
        database: neo4j.database.clone(),
        timeout: Neo4jConfig::TIMEOUT,
    })
}

fn is_loopback(address: &Address) -> bool {
    let host = address.host();
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl OpenStore {
    /// The store for the service of the installation `id`. A server that did not answer at the start is asked for its mark
    /// before it is first written to.
    pub(super) fn checked(self, id: Uuid) -> Arc<dyn Store> {
        match self.marked {
            Some(marked) => Arc::new(Checked { store: self.store, marked, id }),
            None => self.store,
        }
    }
}

/// A store whose preparation begins with its mark.
struct Checked {
    store: Arc<dyn Store>,
    marked: Arc<dyn Marked>,
    id: Uuid,
}

#[async_trait]
impl Store for Checked {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        check_mark(&*self.marked, Some(self.id)).await?;
        self.store.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        self.store.apply(writes).await
    }

    async fn look(&self, ids: &[Uuid]) -> Result<Vec<Option<Looked>>, Fault> {
        self.store.look(ids).await
    }

    async fn read(&self, ids: &[Uuid]) -> Result<Vec<Option<Seen>>, Fault> {
        self.store.read(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Seen>, Fault> {
        self.store.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Fingerprint {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.store.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.store.check().await
    }
}
