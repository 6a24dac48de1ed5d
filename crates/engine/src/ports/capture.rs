//! Capture: the changes that others make in the system of record, from its own log.

use std::fmt;

use async_trait::async_trait;
use chunk_sync_model::Time;
use uuid::Uuid;

use super::Fault;

/// A place in the log of the system of record, ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    /// As PostgreSQL writes it: two halves in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It came.
    Inserted,
    /// It changed.
    Updated,
    /// It went.
    Deleted,
}

/// One transaction of somebody else. It says which rows to look at; what they say is read where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The rows in the order in which they were touched. Empty for a transaction of our own, or a heartbeat.
    pub rows: Vec<(Uuid, Touch)>,
    /// The whole table was emptied, before anything that follows in `rows`.
    pub truncated: bool,
    /// When it committed.
    pub at: Time,
    /// Where it ends.
    pub end: Position,
}

/// The log, being read.
///
/// - **Order**: transactions come in the order of their commits.
/// - **Repetition**: whatever is not confirmed comes again with the next [`Capture::open`].
/// - **Cancellation**: a `next` that is dropped loses nothing.
#[async_trait]
pub trait Source: Send {
    /// The next transaction.
    async fn next(&mut self) -> Result<Captured, Fault>;

    /// All up to here is safe elsewhere: the log may forget it.
    fn confirm(&mut self, position: Position);
}

/// Where changes are captured from.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Creates what is missing. Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Prepares, and begins to read where reading was last confirmed.
    /// [`Busy`](super::FaultClass::Busy) where another process does so already.
    async fn open(&self) -> Result<Box<dyn Source>, Fault>;

    /// Writes something of no meaning into the log, so that an idle table does not keep it from being forgotten.
    async fn beat(&self) -> Result<(), Fault>;

    /// How many bytes of the log are kept because they are not confirmed.
    async fn lag(&self) -> Result<u64, Fault>;
}
