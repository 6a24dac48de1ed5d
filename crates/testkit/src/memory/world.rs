//! All ports in memory, and a foreign client that writes past the service.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::Ports;
use chunk_sync_engine::ports::{FinishedBy, Projection, SystemOfRecord as _};
use chunk_sync_model::{Limits, Target};
use uuid::Uuid;

use super::{MemoryBus, MemoryRecords, MemoryStore};
use crate::scenarios::{DirectClients, Edits, edited};

/// All ports in memory.
pub struct World {
    bus: MemoryBus,
    records: MemoryRecords,
    vectors: MemoryStore,
    graph: MemoryStore,
    /// The stores of the installation.
    stores: Vec<Target>,
}

impl Default for World {
    fn default() -> Self {
        Self::with(&[Target::Qdrant, Target::Neo4j])
    }
}

/// The ports on this bus, these records with their lease and waiting events, and these stores.
#[must_use]
pub fn memory_ports(bus: &MemoryBus, records: &MemoryRecords, stores: Vec<Arc<dyn Projection>>) -> Ports {
    let lease = Arc::new(records.lease("memory"));
    Ports::new(Arc::new(bus.clone()), Arc::new(records.clone()), Arc::new(records.clone()), lease, stores)
}

impl World {
    /// An installation with only these stores beside the rows.
    #[must_use]
    pub fn with(stores: &[Target]) -> Self {
        Self::of(FinishedBy::Acknowledgement, stores)
    }

    /// An installation with both stores. If the merge finishes entries, bus and rows are in one database.
    #[must_use]
    pub fn new(finished_by: FinishedBy) -> Self {
        Self::of(finished_by, &[Target::Qdrant, Target::Neo4j])
    }

    fn of(finished_by: FinishedBy, stores: &[Target]) -> Self {
        let store = |target| MemoryStore::new(target, Limits::default());
        let bus = MemoryBus::of(usize::MAX, finished_by);
        let records = match finished_by {
            FinishedBy::Acknowledgement => MemoryRecords::default(),
            FinishedBy::Merge => MemoryRecords::beside(&bus),
        };
        Self { bus, records, vectors: store(Target::Qdrant), graph: store(Target::Neo4j), stores: stores.to_vec() }
    }

    /// Handles on the ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let all: [Arc<dyn Projection>; 2] = [Arc::new(self.vectors.clone()), Arc::new(self.graph.clone())];
        let stores = all.into_iter().filter(|store| self.stores.contains(&store.target())).collect();
        memory_ports(&self.bus, &self.records, stores)
    }

    async fn write(&self, store: &MemoryStore, id: Uuid, edits: Option<&Edits>) {
        let held = store.fetch_documents(&[id]).await.unwrap().pop().flatten().expect("the chunk is there");
        let row = self.records.rows_of(&[id]).await.unwrap().pop().flatten().and_then(|row| row.state);
        let state = edits.map(|edits| edited(&row.expect("the row is there"), edits));
        store.tamper(id, held.version, state.as_ref());
    }
}

#[async_trait]
impl DirectClients for World {
    async fn row(&self, id: Uuid, edits: Option<&Edits>) {
        let row = self.records.rows_of(&[id]).await.unwrap().pop().flatten().and_then(|row| row.state);
        self.records.write_row(id, edits.map(|edits| edited(&row.expect("the row is there"), edits)));
    }

    async fn point(&self, id: Uuid, edits: Option<&Edits>) {
        self.write(&self.vectors, id, edits).await;
    }

    async fn node(&self, id: Uuid, edits: Option<&Edits>) {
        self.write(&self.graph, id, edits).await;
    }
}
