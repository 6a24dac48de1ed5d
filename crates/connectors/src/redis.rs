//! The bus on Redis Streams, one endpoint: the stream with its group of workers, and the stream of dead letters.
//!
//! One process reads at a time, by the lease of the engine. Order is the order of the stream: one script claims what other
//! consumers have pending, reads new entries and answers with both in order, so nothing comes between. Nobody blocks in a
//! group read: a process that stands still cannot swallow an entry. A process that lost the lease and does not know yet may
//! take entries; the reader takes them back with its next read, in their place.
//!
//! # What a crash of a process does
//! - while publishing: what of a pipeline had arrived is there; the publisher was told nothing and publishes again;
//! - after a read: its entries are pending, and the next reader claims them first. Where the process fell silent each of
//!   them counts one delivery more; what an orderly handover moves is not counted;
//! - in an acknowledgement: it happened, or it did not and the entries come again;
//! - in a burial: the letter is added first; a crash before the acknowledgement brings the entry again and buries it twice;
//! - an answer on its way to a living process, lost or not waited for: the reader goes on under a new name, and claims what
//!   is pending under the old one save what it has in hand (`reader.rs`).
//!
//! # What a failure of the server does
//! - A restart: whatever it has on disk goes on. Its epoch is another one, so the log replays what it has as pending.
//! - Group, stream or data gone (`XGROUP DESTROY`, `DEL`, `FLUSHALL`): the group is made anew and reads the stream, if there
//!   is one, from its start; what this process has in hand is not handed out again. The epoch is another one. What had not
//!   been read is lost with the stream.
//! - Entries removed by somebody before they were finished are losses: said as errors, and counted ([`RedisBus::lost`]).
//!   Entries removed before they were read are not noticed one by one.
//! - Memory full: reading, finishing and trimming go on, for the scripts may exceed the limit.

mod answer;
mod bus;
mod command;
mod config;
mod connection;
mod dead;
mod examine;
mod fault;
mod mark;
mod reader;
mod scripts;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::{EntryId, Fault};
use redis::aio::MultiplexedConnection;

pub use config::RedisConfig;
pub use examine::examine;
pub use mark::statements;

use answer::Group;
use connection::Connection;
use fault::Error;
use reader::{InHand, Reader};

/// The bus on a server.
pub struct RedisBus {
    shared: Arc<Shared>,
    max_backlog: u64,
    room_wait: Duration,
    reader: tokio::sync::Mutex<Reader>,
}

/// What calls and the reader have in common.
struct Shared {
    connection: Connection,
    /// The connection that waits for entries; one wait at a time.
    waiting: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    keys: Keys,
    /// What this process was handed and has not finished.
    in_hand: Mutex<InHand>,
    /// Unread and pending entries as of the last publication; not known yet is more than any bound.
    backlog: AtomicU64,
    lost: AtomicU64,
}

/// Names in the server.
struct Keys {
    stream: String,
    dead: String,
    group: String,
    /// What the names of this process begin with.
    consumer: String,
}

impl RedisBus {
    /// The bus of a server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured) where the URL is none, or names a server off
    /// loopback without verified TLS and a password.
    pub fn new(config: &RedisConfig) -> Result<Self, Fault> {
        let keys = Keys {
            stream: config.stream.clone(),
            dead: config.dead_stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
        };
        let shared = Shared {
            connection: Connection::new(config)?,
            waiting: tokio::sync::Mutex::default(),
            keys,
            in_hand: Mutex::default(),
            backlog: AtomicU64::new(u64::MAX),
            lost: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
            max_backlog: config.max_backlog,
            room_wait: config.room_wait,
            reader: tokio::sync::Mutex::default(),
        })
    }

    /// How many unfinished entries somebody removed from the stream, as far as this process met them. Anything but 0 is a
    /// loss of events.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn in_hand(&self) -> MutexGuard<'_, InHand> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of workers; `None` where it, or the stream, is not there.
    async fn group(&self) -> Result<Option<Group>, Error> {
        match self.connection.query(redis::cmd("XINFO").arg("GROUPS").arg(&self.keys.stream)).await {
            Ok(groups) => answer::group(groups, &self.keys.group),
            Err(error) if error.is_no_group() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lose(&self, id: EntryId) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            entry = %id,
            "an entry was removed from the stream before it was finished, and its event is lost: nobody may trim the \
             stream by length or delete from it"
        );
    }

    async fn make_group(&self) -> Result<(), Error> {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(&self.keys.stream).arg(&self.keys.group).arg(0).arg("MKSTREAM");
        match self.connection.query::<()>(&command).await {
            Err(error) if error.is_group_there() => Ok(()),
            made => made,
        }
    }
}
