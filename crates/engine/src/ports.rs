//! The interfaces to everything outside the process. The engine defines the traits; connectors implement them.

mod absence;
mod bus;
mod capture;
mod conflict_log;
mod dead_letters;
mod erasures;
mod fault;
mod finding;
mod heartbeats;
mod idle_records;
mod installation;
mod lease;
mod outbox;
mod projection;
mod system_of_record;
mod waiting;
mod watch_list;

use std::sync::Arc;

use chunk_sync_model::{SyncVersion, Target};

pub use absence::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsenceNote, AbsentRow, Approval, Deletions, NoteChange, RecordedTable,
    Suspicion, Verdict, max_deletes,
};
pub(crate) use bus::chunk_id;
pub use bus::{Bus, BusCondition, BusErasure, Delivery, Depth, EntryId, Erasing, FinishedBy, chunk_of};
pub use capture::{Capture, Captured, Gap, Opened, PART, Position, Positions, Source, Touch};
pub use conflict_log::{
    CONFLICT_PAGE_BYTES, ConflictFilter, ConflictLog, ConflictPage, ConflictRecord, NewConflict, Resolution,
    ResolvedPart,
};
pub use dead_letters::{DEAD_FIELDS, DeadLetter, DeadLetters, Letter};
pub use erasures::Erasures;
pub use fault::{Fault, FaultClass, Policy};
pub use finding::{Finding, Findings, Level};
pub use heartbeats::{Heartbeat, Heartbeats};
pub use idle_records::{IdlePage, IdleRecords};
pub use installation::{Installation, Installed, Kept, Marked, StoreSet, check_mark};
pub use lease::{Handover, Lease, LeaseState};
pub use outbox::{Outbox, PendingWrite};
pub use projection::{Applied, Counts, DocumentPage, Projection, StoredDocument, Write};
pub use system_of_record::{
    Altered, Commit, Committed, CurrentState, Fence, MergeScope, MergeTransaction, READ_BYTES, Records, Row, RowPage,
    RowsWritten, SystemOfRecord, each_record, each_row, read_together,
};
pub use waiting::{NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents};
pub use watch_list::{WatchList, Watched};

use crate::runtime::clock::Clock;

/// The implementations of the ports that one process uses.
#[derive(Clone)]
pub struct Ports {
    /// The stream of events.
    pub bus: Arc<dyn Bus>,
    /// The system of record, with its outbox and its conflicts.
    pub records: Arc<dyn Records>,
    /// The events that wait beside the rows.
    pub waiting: Arc<dyn WaitingEvents>,
    /// The lease that decides which process works the stream.
    pub lease: Arc<dyn Lease>,
    /// The other stores that the installation has: vectors, graph, both or none.
    pub stores: Vec<Arc<dyn Projection>>,
    /// The clock of every decision and of every time that is recorded.
    pub clock: Clock,
    /// The version of the set of stores, with which every merge is fenced; `None` where no version is recorded.
    pub set: Option<u64>,
    /// The least sync version that is assigned; zero unless a restore was adopted.
    pub floor: SyncVersion,
    /// The places outside of the database that keep the last value inserted there; none if the rows are embedded.
    pub heartbeats: Vec<Arc<dyn Heartbeats>>,
}

impl Ports {
    /// The ports of an installation that has no recorded set of stores, on this machine's clock.
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        records: Arc<dyn Records>,
        waiting: Arc<dyn WaitingEvents>,
        lease: Arc<dyn Lease>,
        stores: Vec<Arc<dyn Projection>>,
    ) -> Self {
        let (clock, floor) = (Clock::default(), SyncVersion::default());
        Self { bus, records, waiting, lease, stores, clock, set: None, floor, heartbeats: Vec::new() }
    }

    /// What must still hold when something is recorded without the lease.
    pub(crate) fn fence(&self) -> Fence {
        Fence { lease: None, stores: self.set }
    }

    /// The stores that hold chunks, the system of record first.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        std::iter::once(Target::Postgres).chain(self.stores.iter().map(|store| store.target())).collect()
    }

    /// The targets that a signal names: the stores beside the system of record, or the system of record if it is the
    /// only store.
    pub(crate) fn signalled(&self) -> Vec<Target> {
        let mut targets = self.targets();
        if targets.len() > 1 {
            targets.remove(0);
        }
        targets
    }

    /// Creates what is missing in the system of record, in every store and on the bus, in that order.
    ///
    /// # Errors
    /// The fault of the first port that cannot be prepared; the ports after it are not touched.
    pub async fn prepare(&self) -> Result<(), Fault> {
        self.records.prepare().await?;
        for store in &self.stores {
            store.prepare().await?;
        }
        self.bus.prepare().await
    }
}
