//! Every seam to the outside. The engine owns the traits; connectors implement them.

mod bus;
mod capture;
mod conflicts;
mod fault;
mod finding;
mod lease;
mod store;

pub use bus::{Bus, DEAD_FIELDS, DeadLetter, Delivery, Depth, EntryId, Letter};
pub use capture::{Capture, Captured, Gap, Opened, Position, Source, Touch};
pub use conflicts::{Closed, ConflictFilter, Decided, Met, Recorded};
pub use fault::{Fault, FaultClass};
pub use finding::{Finding, Findings, Level};
pub use lease::{Handover, Lease, LeaseState};
pub use store::{
    Applied, Commit, Counts, Debt, Decide, Fence, Held, Looked, MergeScope, Records, Row, Seen, Store, Write,
};
