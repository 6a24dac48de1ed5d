//! What a planted flaw replaces in a run.

use std::sync::Arc;

use chunk_sync_engine::Clock;
use chunk_sync_engine::ports::{Bus, Capture, FinishedBy, Heartbeats, Lease, Projection, Records, WaitingEvents};
use chunk_sync_model::{SyncVersion, Target};
use chunk_sync_wal::disk::Disk;

use crate::memory::{MemoryLease, MemoryRecords};

/// The ports and the disk of a run: the correct ones, or ones with a flaw that the run must detect.
#[allow(clippy::type_complexity, reason = "functions from a port to a port")]
pub struct Plant {
    /// The disk of the log.
    pub disk: Box<dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk> + Send + Sync>,
    /// The bus.
    pub bus: Box<dyn Fn(Arc<dyn Bus>) -> Arc<dyn Bus> + Send + Sync>,
    /// The log of the system of record.
    pub capture: Box<dyn Fn(Arc<dyn Capture>) -> Arc<dyn Capture> + Send + Sync>,
    /// The rows and records in memory.
    pub rows: Box<dyn Fn(MemoryRecords) -> MemoryRecords + Send + Sync>,
    /// The system of record.
    pub records: Box<dyn Fn(Arc<dyn Records>) -> Arc<dyn Records> + Send + Sync>,
    /// The waiting events beside the rows.
    pub waiting: Box<dyn Fn(Arc<dyn WaitingEvents>) -> Arc<dyn WaitingEvents> + Send + Sync>,
    /// The lease.
    pub lease: Box<dyn Fn(MemoryLease) -> Arc<dyn Lease> + Send + Sync>,
    /// Each of the other stores.
    pub store: Box<dyn Fn(Arc<dyn Projection>) -> Arc<dyn Projection> + Send + Sync>,
    /// The stores of the installation beside the rows.
    pub stores: Vec<Target>,
    /// The clock of a process.
    pub clock: Box<dyn Fn(Clock) -> Clock + Send + Sync>,
    /// The place that keeps the last value of the guard.
    pub heartbeats: Box<dyn Fn(Arc<dyn Heartbeats>) -> Arc<dyn Heartbeats> + Send + Sync>,
    /// The least version that a process assigns.
    pub floor: Box<dyn Fn(SyncVersion) -> SyncVersion + Send + Sync>,
    /// Whether a trigger of the table alters the rows.
    pub triggers: bool,
    /// One merge in this many takes long.
    pub slow_merges: usize,
    /// What goes wrong beside the faults of calls and processes.
    pub trouble: Option<Trouble>,
}

impl Default for Plant {
    fn default() -> Self {
        Self {
            disk: Box::new(|disk| disk),
            bus: Box::new(|bus| bus),
            capture: Box::new(|capture| capture),
            rows: Box::new(|rows| rows),
            records: Box::new(|records| records),
            waiting: Box::new(|waiting| waiting),
            lease: Box::new(|lease| Arc::new(lease)),
            store: Box::new(|store| store),
            stores: vec![Target::Qdrant, Target::Neo4j],
            clock: Box::new(|clock| clock),
            heartbeats: Box::new(|heartbeats| heartbeats),
            floor: Box::new(|floor| floor),
            triggers: false,
            slow_merges: 20,
            trouble: None,
        }
    }
}

/// What goes wrong in a run beside the faults of calls and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// For a while the service cannot see some rows.
    HiddenRows,
    /// For a while another table bears the name, or from then on.
    SwappedTable,
    /// A store goes back to an earlier state.
    RestoredStore,
    /// The system of record goes back to an earlier state, once everything is settled (`restore.rs`).
    RestoredRows,
}

impl Trouble {
    /// Every trouble.
    pub const ALL: [Self; 4] = [Self::HiddenRows, Self::SwappedTable, Self::RestoredStore, Self::RestoredRows];
}

/// How a simulated installation is set up, whatever the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Number of concurrent processes.
    pub processes: usize,
    /// What finishes the entries of the bus.
    pub finished_by: FinishedBy,
}

impl Installation {
    /// One process whose entries are finished by `finished_by`.
    #[must_use]
    pub fn single(finished_by: FinishedBy) -> Self {
        Self { processes: 1, finished_by }
    }
}
