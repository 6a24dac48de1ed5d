//! The parts of the status that describe the service itself.

use chunk_sync_engine::ports::{Depth, Fault};
use chunk_sync_model::{Target, Time};
use serde::{Deserialize, Serialize};

/// What recovery found in the log at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// Operations replayed.
    pub replayed: u64,
    /// Operations left to the bus: finished by another process, or delivered again.
    #[serde(default)]
    pub on_bus: u64,
    /// Operations dead-lettered because no start completed them.
    #[serde(default)]
    pub given_up: u64,
    /// Operations that cannot be parsed as events under the current limits.
    pub unreadable: u64,
    /// Damaged lines, set aside.
    pub damaged: u64,
    /// Whether the last line was incomplete.
    pub torn: bool,
}

impl Recovered {
    pub(super) fn of(recovered: &chunk_sync_engine::Recovered) -> Self {
        Self {
            replayed: recovered.replayed,
            on_bus: recovered.on_bus,
            given_up: recovered.given_up,
            unreadable: recovered.unreadable,
            damaged: recovered.damaged,
            torn: recovered.torn,
        }
    }
}

/// Entries on the bus.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Entries that have not been read.
    pub unread: u64,
    /// Entries that have been read and not acknowledged.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Age in seconds of the oldest entry that is not acknowledged.
    pub oldest_seconds: Option<f64>,
}

impl Queue {
    /// `oldest` is when the oldest unacknowledged entry was added, by the bus's clock.
    pub(super) fn of(depth: Depth, oldest: Option<Time>, now: Time) -> Self {
        Self {
            unread: depth.unread,
            pending: depth.pending,
            dead: depth.dead,
            oldest_seconds: oldest.map(|oldest| now.seconds_since(oldest).max(0.0)),
        }
    }
}

/// The state of one store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    /// The store.
    pub target: Target,
    /// The current fault; absent if the store works.
    pub failing: Option<Failing>,
    /// Whether new writes to this store go to the outbox.
    pub behind: bool,
    /// Chunks in its outbox; absent if the system of record did not answer.
    pub outbox: Option<u64>,
}

/// The fault of a failing store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failing {
    /// When the store began to fail.
    pub since: Time,
    /// Class of the last fault.
    pub class: String,
    /// Text of the last fault.
    pub fault: String,
}

impl Failing {
    pub(super) fn of((since, fault): &(Time, Fault)) -> Self {
        Self { since: *since, class: fault.class.as_str().to_owned(), fault: fault.to_string() }
    }
}

/// Counters since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Events completed.
    pub settled: u64,
    /// Events read and not yet completed.
    pub under_way: u64,
    /// Conflicts between two writers on a part.
    pub conflicts: u64,
    /// Events replayed from the log.
    pub replayed: u64,
}

impl Done {
    pub(super) fn of(done: chunk_sync_engine::Done) -> Self {
        Self { settled: done.completed, under_way: done.under_way, conflicts: done.conflicts, replayed: done.replayed }
    }
}
