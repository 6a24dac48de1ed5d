//! The bus on Redis Streams, one endpoint.

mod alive;
mod answer;
mod bus;
mod config;
mod connection;
mod dead;
mod fault;
mod order;
mod read;
mod trim;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::{EntryId, Fault};
use uuid::Uuid;

pub use config::RedisConfig;

use connection::Connection;
use fault::Error;
use read::Desk;

/// The bus on a server.
pub struct RedisBus {
    shared: Arc<Shared>,
    max_backlog: u64,
    room_wait: Duration,
    desk: tokio::sync::Mutex<Desk>,
}

/// What calls, the reader and the renewal of the alive key have in common.
struct Shared {
    connection: Connection,
    keys: Keys,
    alive_for: Duration,
    claim_after: Duration,
    /// What the engine has and has not finished, with its chunk.
    handed_out: Mutex<HashMap<EntryId, Option<Uuid>>>,
    /// Unread and pending entries as of the last publication; not known yet is more than any bound.
    backlog: AtomicU64,
    lost: AtomicU64,
}

/// Names in the server.
struct Keys {
    stream: String,
    dead: String,
    group: String,
    consumer: String,
    /// Hash: chunk → its unfinished entries that have been read, with their consumers.
    order: String,
    /// Hash: consumer → the entry up to which it has registered what it read, or `left`.
    seen: String,
    alive_prefix: String,
    alive: String,
}

impl RedisBus {
    /// The bus of a server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured) where the URL is none, or names a server off
    /// loopback without verified TLS and a password.
    pub fn new(config: &RedisConfig) -> Result<Self, Fault> {
        let of_group = |what: &str| format!("{}:{}:{what}", config.stream, config.group);
        let alive_prefix = of_group("alive:");
        let keys = Keys {
            stream: config.stream.clone(),
            dead: config.dead_stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            order: of_group("order"),
            seen: of_group("seen"),
            alive: format!("{alive_prefix}{}", config.consumer),
            alive_prefix,
        };
        let shared = Shared {
            connection: Connection::new(config)?,
            keys,
            alive_for: config.alive_for,
            claim_after: config.claim_after,
            handed_out: Mutex::default(),
            backlog: AtomicU64::new(u64::MAX),
            lost: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
            max_backlog: config.max_backlog,
            room_wait: config.room_wait,
            desk: tokio::sync::Mutex::default(),
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
    fn handed_out(&self) -> MutexGuard<'_, HashMap<EntryId, Option<Uuid>>> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner)
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
