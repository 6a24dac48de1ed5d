//! A store that can be switched off for a while, as a server that is restarted. Everything else passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, FaultClass, Projection, StoredDocument, Write};
use chunk_sync_model::document::Document;
use chunk_sync_model::{State, Target};
use uuid::Uuid;

/// The switch of a store.
#[derive(Default)]
pub(super) struct Switch {
    off: AtomicBool,
    refused: AtomicU64,
}

impl Switch {
    pub(super) fn off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    pub(super) fn on(&self) {
        self.off.store(false, Ordering::Relaxed);
    }

    /// How many writes failed while the store was off.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A store behind a switch.
pub(super) struct Switched {
    store: Arc<dyn Projection>,
    switch: Arc<Switch>,
}

impl Switched {
    /// Puts the graph of `stores` behind the switch.
    pub(super) fn graph(stores: &mut [Arc<dyn Projection>], switch: &Arc<Switch>) {
        for store in stores.iter_mut().filter(|store| store.target() == Target::Neo4j) {
            *store = Arc::new(Self { store: Arc::clone(store), switch: Arc::clone(switch) });
        }
    }
}

#[async_trait]
impl Projection for Switched {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.store.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        if !self.switch.off.load(Ordering::Relaxed) {
            return self.store.apply(writes).await;
        }
        self.switch.refused.fetch_add(writes.len() as u64, Ordering::Relaxed);
        let fault = Fault::new(FaultClass::Unavailable, "graph", "connection refused");
        vec![Applied::Failed(fault); writes.len()]
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.store.fetch_documents(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.store.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.store.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.store.check().await
    }
}
