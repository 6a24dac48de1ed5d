//! Every seam to the outside. The engine owns the traits; connectors implement them.

mod bus;
mod capture;
mod conflicts;
mod fault;
mod finding;
mod installation;
mod lease;
mod store;

use std::sync::Arc;

use chunk_sync_model::Target;

pub use bus::{Bus, DEAD_FIELDS, DeadLetter, Delivery, Depth, EntryId, FinishedBy, Letter};
pub use capture::{Capture, Captured, Gap, Opened, Position, Source, Touch};
pub use conflicts::{Closed, ConflictFilter, Decided, Met, Recorded};
pub use fault::{Fault, FaultClass};
pub use finding::{Finding, Findings, Level};
pub use installation::{Installation, Installed, Kept, Marked, StoreSet, check_mark};
pub use lease::{Handover, Lease, LeaseState};
pub use store::{
    Applied, Commit, Counts, Debt, Decide, Fence, Held, Looked, MergeScope, Records, Row, Seen, Store, Write,
};

/// Everything beyond the seams.
#[derive(Clone)]
pub struct Ports {
    /// Where events wait.
    pub bus: Arc<dyn Bus>,
    /// The system of record.
    pub records: Arc<dyn Records>,
    /// Which process works the stream.
    pub lease: Arc<dyn Lease>,
    /// The other stores that the installation has: vectors, graph, both or none.
    pub stores: Vec<Arc<dyn Store>>,
    /// The version of the set of stores, which every merge is fenced by; `None` where none is recorded.
    pub set: Option<u64>,
}

impl Ports {
    /// The stores that hold chunks, the system of record first.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        std::iter::once(Target::Postgres).chain(self.stores.iter().map(|store| store.target())).collect()
    }

    /// What a signal names as its targets: the stores beside the system of record, and that one where there is no other.
    pub(crate) fn signalled(&self) -> Vec<Target> {
        let mut targets = self.targets();
        if targets.len() > 1 {
            targets.remove(0);
        }
        targets
    }

    /// Creates what is missing in every one of them.
    ///
    /// # Errors
    /// The first that cannot be prepared.
    pub async fn prepare(&self) -> Result<(), Fault> {
        self.records.prepare().await?;
        for store in &self.stores {
            store.prepare().await?;
        }
        self.bus.prepare().await
    }
}
