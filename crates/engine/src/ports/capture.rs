//! Capture: reads the changes that other programs make in the system of record from its log.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_model::Time;
use uuid::Uuid;

use super::Fault;

/// A position in the log of the system of record, ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    /// The notation of PostgreSQL: two halves in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The kind of a change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The row was inserted.
    Inserted,
    /// The row was updated.
    Updated,
    /// The row was deleted.
    Deleted,
}

/// A transaction of another program, or a part of it. It lists the rows to read; their content is read from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The rows in the order in which they were changed. Empty for a transaction of this service and for a heartbeat.
    pub rows: Vec<(Uuid, Touch)>,
    /// Whether the whole table was truncated, before the changes in `rows`.
    pub truncated: bool,
    /// The time of the commit.
    pub at: Time,
    /// The position of the commit, the same in all parts of the transaction.
    pub commit: Position,
    /// The position at which the transaction ends; `None` if more parts of it follow.
    pub end: Option<Position>,
    /// The number of the transaction, for [`Capture::until_visible`]; `None` if the log hands out only what is visible.
    pub transaction: Option<u32>,
}

/// The maximal number of rows in one part of a transaction.
pub const PART: usize = 4096;

/// An open log, read transaction by transaction, each in one or more parts.
///
/// - **Order**: transactions come in the order of their commits, and the parts of one follow each other.
/// - **Memory**: a part has at most [`PART`] rows, whatever the size of its transaction.
/// - **Silence**: a server that sends nothing, though it would if the connection worked, is a
///   [`Timeout`](super::FaultClass::Timeout), however often `next` is dropped meanwhile.
/// - **Repetition**: everything that is not confirmed comes again with the next [`Capture::open`].
/// - **Cancellation**: a `next` that is dropped loses nothing.
#[async_trait]
pub trait Source: Send {
    /// The next part of a transaction.
    async fn next(&mut self) -> Result<Captured, Fault>;

    /// Everything up to this position is durable elsewhere: the server may remove that part of the log.
    fn confirm(&mut self, position: Position);
}

/// What is recorded durably about reading an open log. It may be called while [`Source::next`] is awaited.
#[async_trait]
pub trait Positions: Send + Sync {
    /// Records durably that everything up to `position` may be [confirmed](Source::confirm) from now on. Fails with
    /// [`Busy`](super::FaultClass::Busy) if this or another process opened the log again since.
    async fn note(&self, position: Position) -> Result<(), Fault>;

    /// Records that everything that the gap may have hidden is carried: the gap is not reported again. Fails with
    /// [`Busy`](super::FaultClass::Busy) like [`note`](Positions::note): then there may be another gap, which this reader
    /// must not close.
    async fn close_gap(&self) -> Result<(), Fault>;
}

/// Why changes may have been missed that were made while no process read the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The replication slot, which holds the position of reading, was dropped.
    Dropped,
    /// The server stopped keeping its log for the slot.
    Invalidated,
    /// The replication slot was advanced, or created again, by another program.
    Moved,
    /// The server is not the one that was read before.
    OtherServer,
    /// The server is on another timeline: a standby was promoted, or a backup was restored to a point in time.
    Failover,
    /// What the server publishes left out changes of the table.
    Unpublished,
}

impl Gap {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Dropped, Self::Invalidated, Self::Moved, Self::OtherServer, Self::Failover, Self::Unpublished];

    /// Its name in metrics and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Invalidated => "invalidated",
            Self::Moved => "moved",
            Self::OtherServer => "other_server",
            Self::Failover => "failover",
            Self::Unpublished => "unpublished",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "the replication slot was dropped",
            Self::Invalidated => "the server invalidated the replication slot, because it kept too much log",
            Self::Moved => "another program advanced the replication slot, or created it again",
            Self::OtherServer => "the server is not the one that was captured from",
            Self::Failover => "the server is on another timeline: a standby was promoted, or a backup restored",
            Self::Unpublished => "the publication did not show every change of the table",
        })
    }
}

/// A log that was opened.
pub struct Opened {
    /// The open log.
    pub source: Box<dyn Source>,
    /// What is recorded about reading it.
    pub positions: Arc<dyn Positions>,
    /// Why changes before the first transaction may have been missed. Every opening reports it until it is closed.
    pub gap: Option<Gap>,
}

/// Opens the log of the system of record.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Creates what is missing. Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Fails if capturing would break the writes of other programs or hide changes, with the remedy. Changes nothing.
    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Prepares, and begins to read at the last confirmed position. Fails with [`Busy`](super::FaultClass::Busy) only if
    /// another process reads the log.
    async fn open(&self) -> Result<Opened, Fault>;

    /// What the opening that is under way waits for: the sessions that block the creation of the slot.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// Examines whether the table is still published as when the log was opened, and writes a message without meaning
    /// into the log, so that the confirmed position advances while the table is idle. Fails with
    /// [`Misconfigured`](super::FaultClass::Misconfigured) if the log must be opened again, because changes may be
    /// missing from it.
    async fn heartbeat(&self) -> Result<(), Fault>;

    /// Waits until everyone who reads from now on sees the changes of these transactions: a log may hand out a commit
    /// before other connections see it. Fails with [`Timeout`](super::FaultClass::Timeout) if that takes too long.
    async fn until_visible(&self, _transactions: &[u32]) -> Result<(), Fault> {
        Ok(())
    }

    /// The number of bytes of the log that the server keeps because they are not confirmed.
    async fn lag(&self) -> Result<u64, Fault>;
}
