//! What the engine can be told; every value has been checked before it gets here.

use std::path::PathBuf;
use std::time::Duration;

use chunk_sync_model::Limits;
use chunk_sync_model::merge::Strategies;

/// How the service works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What published chunks may be.
    pub limits: Limits,
    /// What decides where writers disagree.
    pub strategies: Strategies,
    /// What others write into Qdrant and Neo4j.
    pub direct: DirectSettings,
    /// How long a conflict stays on record once it is settled.
    pub keep_conflicts: Duration,
    /// The worker.
    pub worker: WorkerSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
}

/// What is done about what others write into Qdrant and Neo4j, past the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectSettings {
    /// What becomes of it.
    pub writes: DirectWrites,
    /// When it is looked for.
    pub detect: Detect,
}

/// What becomes of a direct write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectWrites {
    /// It goes on record, and the store is told again what the row says.
    #[default]
    Repair,
    /// The store is a writer like any other.
    Merge,
}

/// When direct writes are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detect {
    /// Where verification or the scrubber found a chunk to differ.
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
    /// Batches under way at once: merged, and not yet held by every store.
    pub in_flight: usize,
    /// Writes sent to a store at once, at most.
    pub store_batch: usize,
    /// First pause before a failed write is repeated; doubles up to `retry_max`, with jitter.
    pub retry_min: Duration,
    /// Longest pause: about as late it may be noticed that a server is back.
    pub retry_max: Duration,
    /// How long a store may fail before what it misses is recorded as its debt, and the others go on without it.
    pub patience: Duration,
    /// Deliveries after which an entry that keeps killing its worker is set aside.
    pub max_deliveries: u32,
    /// Where nearly everything is refused, it is kept and tried again, and not set aside.
    pub hold: bool,
}

/// Where the log is and how much of it.
#[derive(Clone, Debug)]
pub struct WalSettings {
    /// Its directory.
    pub dir: PathBuf,
    /// The most it may take on disk; appends wait beyond.
    pub max_bytes: u64,
    /// How long a file stays after its operations are all complete.
    pub keep: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            batch: 256,
            wait: Duration::from_secs(1),
            in_flight: 4,
            store_batch: 256,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            max_deliveries: 16,
            hold: true,
        }
    }
}
