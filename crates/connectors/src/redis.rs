//! The bus on Redis Streams, one endpoint: the stream with its group of workers, and the stream of dead letters.
//!
//! # In the server
//! Beside both streams, keys named after stream and group:
//! - `…:alive:<consumer>`: vanishes unless its process renews it. Gone, the process is dead, and its entries are others'.
//! - `…:register:<consumer>`, a hash: page → entries that it has read, each with half of its chunk's id. A page is written
//!   for each batch and removed when all of it is finished.
//! - `…:seen`, a hash: consumer → the entry up to which all it has read is registered; `left` where it said goodbye.
//!
//! They are hints: what is unfinished, and whose, only the group's own list of pending entries says. Lost, they are made
//! anew.
//!
//! # Order
//! Entries of one chunk take effect in the order of the stream, whatever the number of processes:
//! - What a process has read it *registers*: one script writes the page and answers with the pages of the others. Where
//!   these have an earlier entry of the same chunk (rare), the list of pending entries is asked whether it is unfinished
//!   and at another. If so, the later one is held and asked for again; so is what comes after it in its chunk. All else is
//!   handed out.
//! - Reading and registering are two steps. So the script also tells the lowest entry that another has pending and not
//!   registered (`XPENDING` above its `seen`): what lies above is held. Whoever has the lowest such entry can always go on,
//!   so nobody waits for ever.
//! - A process alone pays one small write a batch for this, and nothing when it acknowledges.
//!
//! # What a crash of a process does
//! - while publishing: what of a pipeline had arrived is there; the publisher was told nothing and publishes again;
//! - after reading, before registering: its entries are pending; all that was read later waits at the other processes until
//!   it counts as dead (`alive_for`) and its entries have been claimed (`claim_after`), which lowers the claimer's `seen` in
//!   the same script. Nothing is lost, nothing repeated;
//! - after registering: only later entries of the same chunks wait, and as long. What it had been handed comes again, at
//!   another process, and counts one delivery more;
//! - in an acknowledgement: the script ran, or it did not and the entries come again;
//! - in a burial: the letter is added first; a crash before the acknowledgement brings the entry again and buries it twice;
//! - an answer on its way to a living process: the entries are pending and unknown to it; after every error and at the start
//!   it compares the server's list with its own and fetches those before anything new;
//! - it did not crash but stood still: when its key is gone it drops what it holds, joins again and looks what is still
//!   its own. What it had handed out before may be carried twice, harmlessly: the merge knows versions;
//! - an entry that kills every process that gets it: from the fourth delivery on it is handed out alone, so that the count
//!   of the others beside it does not grow with its own.
//!
//! # What a failure of the server does
//! - A restart: whatever it has on disk goes on. All alive keys may have run out meanwhile; nobody counts as dead before he
//!   had as long to renew his key as he has anyway.
//! - Group or data gone (`FLUSHALL`): the group is made anew and reads the stream, if there is one, from its start. What had
//!   been read before is still handed out and is carried; for that, order between processes is not kept. What had not been
//!   read is lost with the data.
//! - Entries removed by somebody before they were finished are losses: said as errors, and counted ([`RedisBus::lost`]).
//!
//! Entries of the living are never claimed, however long they take: `XAUTOCLAIM` would take those as well, so the dead
//! consumers' entries are claimed by `XPENDING` and `XCLAIM`.

mod alive;
mod answer;
mod bus;
mod config;
mod connection;
mod dead;
mod desk;
mod examine;
mod fault;
mod ledger;
mod mark;
mod order;
mod read;
mod trim;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_engine::ports::{EntryId, Fault};

pub use config::RedisConfig;
pub use examine::examine;
pub use mark::statements;

use connection::Connection;
use desk::Desk;
use fault::Error;
use ledger::Ledger;

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
    ledger: Mutex<Ledger>,
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
    /// Hash: consumer → the entry up to which it has registered what it read, or `left`.
    seen: String,
    /// Hash of this consumer: page → entries that it has read, with what stands for their chunks.
    register: String,
    register_prefix: String,
    alive: String,
    alive_prefix: String,
}

impl RedisBus {
    /// The bus of a server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Misconfigured`](chunk_sync_engine::ports::FaultClass::Misconfigured) where the URL is none, or names a server off
    /// loopback without verified TLS and a password.
    pub fn new(config: &RedisConfig) -> Result<Self, Fault> {
        let of_group = |what: &str| format!("{}:{}:{what}", config.stream, config.group);
        let (alive_prefix, register_prefix) = (of_group("alive:"), of_group("register:"));
        let keys = Keys {
            stream: config.stream.clone(),
            dead: config.dead_stream.clone(),
            group: config.group.clone(),
            consumer: config.consumer.clone(),
            seen: of_group("seen"),
            register: format!("{register_prefix}{}", config.consumer),
            register_prefix,
            alive: format!("{alive_prefix}{}", config.consumer),
            alive_prefix,
        };
        let shared = Shared {
            connection: Connection::new(config)?,
            keys,
            alive_for: config.alive_for,
            claim_after: config.claim_after,
            ledger: Mutex::default(),
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

    /// Leaves the group: what this process had and did not finish is for others at once. Dropping the bus says the same,
    /// but nobody waits for it. Nothing is read after that.
    ///
    /// # Errors
    /// Where the server was not told: then others wait until this process has been silent long enough.
    pub async fn leave(&self) -> Result<(), Fault> {
        if self.desk.lock().await.close() {
            alive::leave(&self.shared).await.map_err(|error| error.into_fault("redis bus: leave"))?;
        }
        Ok(())
    }

    /// How many unfinished entries somebody removed from the stream, as far as this process met them. Anything but 0 is a
    /// loss of events.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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
