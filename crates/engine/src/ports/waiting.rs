//! The events that wait beside the system of record: what cannot be merged now, and later events of the same chunk.
//!
//! An event is moved there with its fields, then it is finished on the bus, so neither the bus nor the replication slot
//! stands still. It stays until every store holds its result, or the outbox does, or its dead letter is written; only
//! then it is removed.
//!
//! | crash | what it could lose | why it does not |
//! |---|---|---|
//! | before the event is added | the event | it is unfinished on the bus, and pending in the log |
//! | after it is added, before it is finished on the bus | the order | the bus hands it out again; its chunk waits, so it is added once more, which its name prevents |
//! | after it is finished on the bus | the event | it is in the table |
//! | after its merge, before it is removed | the writes to the stores | it is carried again: the merge changes nothing, and every store gets what it misses |
//! | after its dead letter, before it is removed | nothing | it is refused and dead-lettered once more |

use async_trait::async_trait;
use chunk_sync_model::Time;
use chunk_sync_model::event::Fields;
use uuid::Uuid;

use super::{EntryId, Fault, Fence};

/// Why an event waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitReason {
    /// Another program locks the row, or something else that the merge needs.
    Locked,
    /// A store refuses nearly everything.
    Refused,
    /// A limit, or the list of models, refuses the event.
    Setting,
    /// Its time lies ahead of the clock.
    Clock,
    /// An earlier event of its chunk waits.
    Behind,
}

impl WaitReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Locked, Self::Refused, Self::Setting, Self::Clock, Self::Behind];

    /// Its name in the table and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Refused => "refused",
            Self::Setting => "setting",
            Self::Clock => "clock",
            Self::Behind => "behind",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// An event that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWaiting {
    /// Distinguishes it from every other event that waits: one that is there already is not added again.
    pub name: String,
    /// The chunk that it changes.
    pub chunk: Uuid,
    /// Its entry on the bus, for reports; `None` if only the log had it.
    pub entry: Option<EntryId>,
    /// Which delivery of the entry it was.
    pub attempt: u32,
    /// The fields as they were published.
    pub fields: Fields,
    /// Why it waits.
    pub reason: WaitReason,
    /// The error that showed it.
    pub error: String,
}

/// An event that waits, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    /// Its place in the order: ascending, never used again.
    pub number: u64,
    /// Since when it waits.
    pub since: Time,
    /// The event.
    pub event: NewWaiting,
}

/// How many events wait for one reason, about how long they are, and since when the oldest waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingCount {
    /// The reason.
    pub reason: WaitReason,
    /// The number of events.
    pub events: u64,
    /// The bytes of their fields, as the table stores them.
    pub bytes: u64,
    /// Since when the oldest of them waits.
    pub since: Time,
}

/// The table of events that wait. One process works it: the holder of the lease.
#[async_trait]
pub trait WaitingEvents: Send + Sync {
    /// Adds the events in their order, each unless one of its name is there, and finishes the entries of a bus in the
    /// same database, all in one transaction. Durable on return.
    ///
    /// The transaction compares the fence like a merge; a process that lost the lease adds nothing and gets
    /// [`Busy`](super::FaultClass::Busy).
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Fault>;

    /// Reads the events of these chunks in their order, at most `limit` and a bounded number of bytes, at least one if
    /// there is one.
    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault>;

    /// The chunks that have events here, each with their number.
    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault>;

    /// How many events wait, by reason, without the reasons that none has.
    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault>;

    /// Changes why these events wait, for reports.
    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault>;

    /// Removes events: each has ended. Not fenced, because that stays true whichever process holds the lease.
    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault>;
}
