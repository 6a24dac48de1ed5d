//! The stores beside the rows: Qdrant and Neo4j, each if its URL is set. If no URL is set at all, both are in the embedded
//! file.

use std::sync::Arc;

use chunk_sync_connectors::Checked;
use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{Fault, Kept, Marked, Projection, StoreSet};
use chunk_sync_model::{Limits, Target};
use uuid::Uuid;

use super::rows::Rows;
use crate::config::{Neo4j, Qdrant, Roles};

/// An open store.
pub(super) struct OpenStore {
    pub(super) store: Arc<dyn Projection>,
    /// The server that carries the mark of the installation; `None` if the store is embedded.
    pub(super) marked: Option<Arc<dyn Marked>>,
}

pub(super) fn open(roles: &Roles, rows: &Rows, limits: &Arc<Limits>) -> Result<Vec<OpenStore>, Fault> {
    if let Some(file) = rows.home.file().filter(|_| roles.is_embedded()) {
        let stores: [Arc<dyn Projection>; 2] = [Arc::clone(&file.vectors) as _, Arc::clone(&file.graph) as _];
        return Ok(stores.map(|store| OpenStore { store, marked: None }).into());
    }
    let mut stores = Vec::new();
    if let Some(server) = &roles.qdrant {
        stores.push(server_store(QdrantStore::new(&qdrant(server, limits, roles.allow_insecure))?));
    }
    if let Some(server) = &roles.neo4j {
        stores.push(server_store(Neo4jStore::new(&neo4j(server, roles.allow_insecure))?));
    }
    Ok(stores)
}

fn server_store<S: Projection + Marked + 'static>(store: S) -> OpenStore {
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

pub(super) fn neo4j(neo4j: &Neo4j, allow_insecure: bool) -> Neo4jConfig {
    Neo4jConfig {
        url: neo4j.url.expose().to_owned(),
        user: neo4j.user.clone(),
        password: neo4j.password.clone().unwrap_or_default(),
        database: neo4j.database.clone(),
        timeout: Neo4jConfig::TIMEOUT,
        tls: neo4j.tls.clone(),
        allow_insecure,
    }
}

impl OpenStore {
    /// The store for the installation `id`. If the server did not answer at start, its mark is checked before the first
    /// write.
    pub(super) fn checked(self, id: Uuid) -> Arc<dyn Projection> {
        match self.marked {
            Some(marked) => Arc::new(Checked::new(self.store, marked, id)),
            None => self.store,
        }
    }
}
