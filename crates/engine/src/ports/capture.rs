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

    /// Makes known, durably, that everything up to `position` may be [confirmed](Source::confirm) from now on.
    /// [`Busy`](super::FaultClass::Busy) where the log was opened again since, by whomever.
    async fn note(&mut self, position: Position) -> Result<(), Fault>;

    /// What a gap may have hidden is carried: it comes no more. [`Busy`](super::FaultClass::Busy) as with a note: then
    /// there may be another gap, which is not ours to close.
    async fn close_gap(&mut self) -> Result<(), Fault>;

    /// All up to here is safe elsewhere: the log may forget it.
    fn confirm(&mut self, position: Position);
}

/// Why changes may have been missed that were made while nobody read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Somebody dropped what remembers how far reading had come.
    Dropped,
    /// The server gave up keeping its log for us.
    Invalidated,
    /// Somebody moved it on, or made it anew.
    Moved,
    /// This is another server than the one that was read.
    OtherServer,
    /// The server's history is another: a standby was promoted, or a backup restored to a point in time.
    Failover,
}

impl Gap {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Dropped, Self::Invalidated, Self::Moved, Self::OtherServer, Self::Failover];

    /// Its name in metrics and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Invalidated => "invalidated",
            Self::Moved => "moved",
            Self::OtherServer => "other_server",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "the replication slot was dropped",
            Self::Invalidated => "the server invalidated the replication slot, for it kept too much log",
            Self::Moved => "somebody moved the replication slot on, or made it anew",
            Self::OtherServer => "this is another server than the one that was captured from",
            Self::Failover => "the server is on another timeline: a standby was promoted, or a backup restored",
        })
    }
}

/// A log that is open.
pub struct Opened {
    /// It, being read.
    pub source: Box<dyn Source>,
    /// Why changes before its first may have been missed. It comes with every opening until it is closed.
    pub gap: Option<Gap>,
}

/// Where changes are captured from.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Creates what is missing. Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Prepares, and begins to read where reading was last confirmed.
    /// [`Busy`](super::FaultClass::Busy) where another process does so already.
    async fn open(&self) -> Result<Opened, Fault>;

    /// Writes something of no meaning into the log, so that an idle table does not keep it from being forgotten.
    async fn beat(&self) -> Result<(), Fault>;

    /// How many bytes of the log are kept because they are not confirmed.
    async fn lag(&self) -> Result<u64, Fault>;
}
