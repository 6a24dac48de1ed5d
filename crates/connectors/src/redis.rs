//! The bus on Redis Streams, one endpoint: the stream with its group of workers, and the stream of dead letters.
//!
//! One process reads at a time: the holder of the engine's lease. Entries are delivered in stream order: one script claims
//! the pending entries of other consumers, reads new entries and returns both in order, so no other command runs in between.
//! No process blocks in a group read, so a suspended process cannot take an entry. A process that lost the lease and has not
//! noticed yet may still take entries; the reader claims them with its next read and delivers them in stream order.
//!
//! # Crash of a process
//! - While publishing: the commands of the pipeline that had arrived are executed. The publisher got no answer and publishes
//!   again.
//! - After a read: its entries are pending, and the next reader claims them first. After a silent end of the process each
//!   claim counts as one more delivery; after an orderly handover it does not.
//! - In an acknowledgement: it was executed, or it was not and the entries are delivered again.
//! - While writing a dead letter: the letter is added first. After a crash before the acknowledgement the entry is delivered
//!   again and its dead letter is written twice.
//! - An entry above the limit of bytes is not fetched: the script that reads copies it into the dead letters and
//!   acknowledges it, in one step.
//! - The process lives, but an answer is lost or no longer awaited: the reader continues under a new consumer name and claims
//!   what is pending under the old one, except the entries in hand (`reader.rs`).
//!
//! # Failure of the server
//! - Restart: what is on its disk is kept. Its epoch changes, so the log replays its pending operations.
//! - Group, stream or data gone (`XGROUP DESTROY`, `DEL`, `FLUSHALL`): the reader creates the group again and reads the
//!   stream, if there is one, from its start. Entries in hand are not delivered again. The epoch changes. Entries that were
//!   unread are lost with the stream.
//! - Entries that another client removed before they were finished, read or unread, are lost: they are logged as an error and
//!   counted ([`RedisBus::lost`]), and the epoch changes, so that captured changes are captured again (`loss.rs`).
//! - A replica that lacks the last entries becomes the primary: its `run_id` differs, and so does the epoch.
//! - Memory full: reading, finishing, dead-lettering and trimming continue, because the scripts may exceed the limit.

mod answer;
mod bus;
mod command;
mod config;
mod connection;
mod dead;
mod endpoint;
mod erase;
mod examine;
mod fault;
mod heartbeats;
mod loss;
mod mark;
mod reader;
mod rights;
mod scripts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::{EntryId, Fault};
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

pub use config::RedisConfig;
pub use examine::examine;
pub use rights::rights;

use answer::{Group, IdleGroup};
use connection::Connection;
use fault::Error;
use loss::LastCounts;
use reader::{InHand, Reader};

use crate::backlog::MaxBacklog;

/// The bus on a Redis server.
pub struct RedisBus {
    shared: Arc<Shared>,
    max_backlog: MaxBacklog,
    room_wait: Duration,
    reader: tokio::sync::Mutex<Reader>,
}

/// State that the calls and the reader share.
struct Shared {
    connection: Connection,
    /// The connection that waits for entries. One wait runs at a time.
    waiting: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    keys: Keys,
    /// Entries that this process received and has not finished.
    in_hand: Mutex<InHand>,
    /// Unread plus pending entries as of the last publication; `u64::MAX` if unknown, which exceeds every bound.
    backlog: AtomicU64,
    /// About how many bytes of the server's memory an entry has, and when that was measured.
    entry_bytes: Mutex<Option<(Instant, u64)>>,
    lost: AtomicU64,
    seen: Mutex<LastCounts>,
    /// Other groups that make no progress, as of the last trimming.
    idle: Mutex<Vec<IdleGroup>>,
    idle_after: Duration,
    trim_past_idle: bool,
}

/// Names on the server.
struct Keys {
    stream: String,
    dead: String,
    group: String,
    /// Limit of the bytes of one entry.
    entry_max_bytes: usize,
    /// Prefix of the consumer names of this process.
    consumer: String,
    /// A hash: what the group had read when a script last looked.
    notes: String,
    /// A hash: the progress of the other groups.
    others: String,
}

impl RedisBus {
    /// Creates the bus. Sends nothing yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured) if the URL cannot be parsed, or if it names
    /// a server off loopback without verified TLS and a password and `allow_insecure` is not set.
    pub fn new(config: &RedisConfig) -> Result<Self, Fault> {
        let keys = Keys {
            stream: config.stream.clone(),
            dead: config.dead_stream.clone(),
            group: config.group.clone(),
            entry_max_bytes: config.entry_max_bytes,
            consumer: config.consumer.clone(),
            notes: format!("{}:read:{}", config.stream, config.group),
            others: format!("{}:groups", config.stream),
        };
        let shared = Shared {
            connection: Connection::new(config)?,
            waiting: tokio::sync::Mutex::default(),
            keys,
            in_hand: Mutex::default(),
            backlog: AtomicU64::new(u64::MAX),
            entry_bytes: Mutex::default(),
            lost: AtomicU64::new(0),
            seen: Mutex::default(),
            idle: Mutex::default(),
            idle_after: config.idle_after,
            trim_past_idle: config.trim_past_idle,
        };
        Ok(Self {
            shared: Arc::new(shared),
            max_backlog: config.max_backlog,
            room_wait: config.room_wait,
            reader: tokio::sync::Mutex::default(),
        })
    }

    /// Number of unfinished entries that were lost from the stream, by the last answer of the server. Any value but 0 is a
    /// loss of events, except of captured changes, which are captured again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn in_hand(&self) -> MutexGuard<'_, InHand> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of workers; `None` if the group or the stream does not exist.
    async fn group(&self) -> Result<Option<Group>, Error> {
        match self.connection.query(redis::cmd("XINFO").arg("GROUPS").arg(&self.keys.stream)).await {
            Ok(groups) => answer::group(groups, &self.keys.group),
            Err(error) if error.is_no_group() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn seen(&self) -> MutexGuard<'_, LastCounts> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleGroup>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, id: EntryId) {
        tracing::error!(
            entry = %id,
            "an entry was removed from the stream before it was finished, and its event is lost; stop the client that \
             trims the stream by length or deletes from it"
        );
    }
}
