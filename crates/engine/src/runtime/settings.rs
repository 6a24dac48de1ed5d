//! The settings of the engine. The caller has checked every value.

use std::path::PathBuf;
use std::time::Duration;

use chunk_sync_model::merge::Strategies;
use chunk_sync_model::{Limits, Time};

/// The settings of the service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The limits of published chunks.
    pub limits: Limits,
    /// The strategies that decide conflicts between writers.
    pub strategies: Strategies,
    /// The rules for direct writes into Qdrant and Neo4j.
    pub direct: DirectSettings,
    /// What the events of captured changes carry.
    pub captured_events: CapturedEvents,
    /// The most chunks that may be deleted within 24 hours because their rows are absent, or were truncated; `None` for
    /// the default, see [`max_deletes`](crate::ports::max_deletes).
    pub max_deletes: Option<u64>,
    /// How long a conflict stays on record once it is closed.
    pub keep_conflicts: Duration,
    /// How long a record keeps superseded settings, values that are not shown, and the parts of a deleted chunk.
    pub keep_records: Duration,
    /// The worker.
    pub worker: WorkerSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
}

impl Settings {
    /// What has been in a record since before this time may expire.
    pub(crate) fn expired_before(&self, now: Time) -> Time {
        let keep = i64::try_from(self.keep_records.as_micros()).unwrap_or(i64::MAX);
        Time::from_micros(now.micros().saturating_sub(keep))
    }
}

/// What the events of captured changes carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapturedEvents {
    /// The id of the row: the merge reads the row itself.
    #[default]
    Thin,
    /// The row as it is when the event is published, for other readers of the stream.
    Full,
}

impl CapturedEvents {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Thin, Self::Full];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Full => "full",
        }
    }
}

/// The rules for direct writes: changes by other programs in Qdrant and Neo4j, past the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectSettings {
    /// What the service does with a direct write.
    pub writes: DirectWrites,
    /// When the service looks for direct writes.
    pub detect: Detect,
}

/// What the service does with a direct write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectWrites {
    /// It goes on record as a conflict, and the store is overwritten with the row.
    #[default]
    Repair,
    /// It is merged as a change by the store, which is a writer like any other.
    Merge,
}

/// When the service looks for direct writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detect {
    /// When verification or the scrubber has found a chunk to differ.
    #[default]
    Verify,
    /// Before every merge as well.
    Always,
}

/// How the worker takes events from the bus.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Events taken at once, at most.
    pub batch: usize,
    /// How long to wait for the first of them.
    pub wait: Duration,
    /// Events under way at once: merged, and not yet completed. The last batch may exceed it.
    pub in_flight_events: usize,
    /// About how many bytes their entries and states may have.
    pub in_flight_bytes: usize,
    /// Writes sent to a store at once, at most.
    pub store_batch: usize,
    /// First pause before a failed write is repeated; doubles up to `retry_max`, with jitter.
    pub retry_min: Duration,
    /// Longest pause, and so about the longest time until the service notices that a server is back.
    pub retry_max: Duration,
    /// How long a store may fail before its writes go into the outbox and the other stores continue without it.
    pub patience: Duration,
    /// Deliveries after which an entry that keeps killing its process is dead-lettered.
    pub max_deliveries: u32,
    /// An entry that has been under way for this long does not kill its process.
    pub deadly_within: Duration,
    /// The most events that are set aside, and the most bytes of their fields. Above either, nothing more is read.
    pub waiting_events: u64,
    /// See `waiting_events`.
    pub waiting_bytes: u64,
    /// If nearly all chunks are refused, they are kept and retried instead of dead-lettered.
    pub hold: bool,
}

/// Location and size of the log.
#[derive(Clone, Debug)]
pub struct WalSettings {
    /// Its directory.
    pub dir: PathBuf,
    /// Largest size on disk, in bytes; appends beyond it wait.
    pub max_bytes: u64,
    /// How long a file stays after all its operations have ended.
    pub keep: Duration,
}

impl Settings {
    /// The default settings, with the log in this directory.
    #[must_use]
    pub fn new(wal_dir: impl Into<PathBuf>) -> Self {
        Self {
            limits: Limits::default(),
            strategies: Strategies::default(),
            direct: DirectSettings::default(),
            captured_events: CapturedEvents::default(),
            max_deletes: None,
            keep_conflicts: Duration::from_secs(30 * 86_400),
            keep_records: Duration::from_secs(7 * 86_400),
            worker: WorkerSettings::default(),
            wal: WalSettings::new(wal_dir),
        }
    }
}

impl WalSettings {
    /// The default size and age of a log in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 8 << 30, keep: Duration::from_secs(86_400) }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            batch: 256,
            wait: Duration::from_secs(1),
            in_flight_events: 8_192,
            in_flight_bytes: 32 << 20,
            store_batch: 1_024,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            max_deliveries: 16,
            deadly_within: Duration::from_secs(5),
            waiting_events: 1_000_000,
            waiting_bytes: 4 << 30,
            hold: true,
        }
    }
}
