//! Every seam to the outside. The engine owns the traits; connectors implement them.

mod bus;
mod capture;
mod conflicts;
mod fault;
mod finding;
mod store;

use std::sync::Arc;

pub use bus::{Bus, DEAD_FIELDS, DeadLetter, Delivery, Depth, EntryId, Letter};
pub use capture::{Capture, Captured, Gap, Opened, Position, Source, Touch};
pub use conflicts::{Closed, ConflictFilter, Decided, Met, Recorded};
pub use fault::{Fault, FaultClass};
pub use finding::{Finding, Findings, Level};
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
    /// The other stores: vectors and graph.
    pub stores: Vec<Arc<dyn Store>>,
}

impl Ports {
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
