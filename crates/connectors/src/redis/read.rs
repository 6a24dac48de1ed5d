//! Reading: what this consumer had and lost sight of, what dead ones left, what is new; each handed out once its turn in
//! its chunk has come.
//!
//! The reader works in turns, each a task of its own that nothing but the end of the bus cuts short.

mod pending;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Delivery, EntryId};
use chunk_sync_model::event::Fields;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::time::{Instant, sleep};
use tracing::warn;
use uuid::Uuid;

use super::Shared;
use super::alive::Alive;
use super::answer;
use super::fault::Error;
use super::order::{REGISTER, chunk_of};

/// How often held back entries are looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// The longest that one read waits in the server, so that the dead are looked for meanwhile.
const LONGEST_BLOCK: Duration = Duration::from_secs(1);

/// An entry delivered so often without being finished may be what kills its consumers. It is handed out with no other such
/// entry beside it, and only that counts as a delivery: whatever merely lay beside the culprit gets finished.
const SUSPECT: u32 = 3;

/// What this consumer has read and what it does next.
#[derive(Default)]
pub(super) struct Reader {
    connection: Option<MultiplexedConnection>,
    alive: Option<Alive>,
    joined_at: Option<Instant>,
    claimed_at: Option<Instant>,
    /// Whether the server's list of what this consumer has holds nothing that is unknown here. False from before a command
    /// whose answer brings entries until they are kept here.
    nothing_missed: bool,
    /// Whether the others know how far this consumer has registered what it read.
    registered: bool,
    /// The highest entry that was ever read.
    highest: Option<EntryId>,
    /// Read, and its turn has not come.
    held: BTreeMap<EntryId, Held>,
    /// Its turn has come; nobody has asked for it yet.
    ready: VecDeque<(Delivery, Option<Uuid>)>,
    /// The suspect entry handed out last.
    suspect: Option<EntryId>,
}

struct Held {
    /// Which delivery it is; of a suspect, which it will be.
    attempt: u32,
    chunk: Option<Uuid>,
    fields: Fields,
}

impl Reader {
    /// Hands out. Nothing is waited for here: a call that is dropped has taken nothing.
    pub(super) fn take_ready(&mut self, shared: &Shared, max: usize) -> Vec<Delivery> {
        let mut handed_out = shared.handed_out();
        let ready = self.ready.drain(..max.min(self.ready.len()));
        let hand = |(delivery, chunk): (Delivery, _)| {
            handed_out.insert(delivery.id, chunk);
            delivery
        };
        ready.map(hand).collect()
    }

    pub(super) async fn turn(mut self, shared: Arc<Shared>, max: usize, wait: Duration) -> (Self, Result<(), Error>) {
        let result = match self.fetch(&shared, max, wait).await {
            Ok(()) => Ok(()),
            Err(error) => self.recover(&shared, error).await,
        };
        if result.is_ok() && self.ready.is_empty() && !self.held.is_empty() {
            sleep(HELD_PAUSE.min(wait)).await;
        }
        (self, result)
    }

    /// After a vanished group everything starts anew, and what is held here stays: nobody else has it now.
    async fn recover(&mut self, shared: &Shared, error: Error) -> Result<(), Error> {
        self.nothing_missed = false;
        if !error.is_no_group() {
            return Err(error);
        }
        warn!(group = shared.keys.group, "the group of workers has vanished: made anew, it reads from the start");
        if let Some(alive) = self.alive.take() {
            alive.lapse();
        }
        shared.make_group().await
    }

    async fn fetch(&mut self, shared: &Arc<Shared>, max: usize, wait: Duration) -> Result<(), Error> {
        self.join(shared).await?;
        if !self.nothing_missed {
            self.look_for_missed(shared).await?;
        }
        let claimed = self.claim(shared, max).await?;
        let room = (2 * max).saturating_sub(self.held.len()).min(max);
        if !claimed && room > 0 {
            let wait = if self.held.is_empty() { wait.min(LONGEST_BLOCK) } else { Duration::ZERO };
            self.read_new(shared, room, wait).await?;
        }
        self.register(shared).await
    }

    /// Joins, also anew after this consumer was taken for dead: what it has here may be somebody else's by now, and what
    /// is not is found in its list.
    async fn join(&mut self, shared: &Arc<Shared>) -> Result<(), Error> {
        if self.alive.as_ref().is_some_and(|alive| !alive.has_lapsed()) {
            return Ok(());
        }
        if self.alive.take().is_some() {
            warn!(consumer = shared.keys.consumer, "was silent too long and counted as dead: joining again");
            self.held.clear();
            self.ready.clear();
        }
        (self.nothing_missed, self.registered) = (false, false);
        self.alive = Some(Alive::join(shared).await?);
        self.joined_at = Some(Instant::now());
        Ok(())
    }

    async fn read_new(&mut self, shared: &Shared, count: usize, wait: Duration) -> Result<(), Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => shared.connection.for_reads(LONGEST_BLOCK).await?,
        };
        self.nothing_missed = false;
        let answer: Result<Value, RedisError> = new_entries(shared, count, wait).query_async(&mut connection).await;
        let answer = answer.map_err(Error::from);
        if !answer.as_ref().is_err_and(Error::is_of_connection) {
            self.connection = Some(connection);
        }
        for entry in answer::read(answer?)? {
            self.keep(entry.id, 1, entry.fields);
        }
        self.nothing_missed = true;
        Ok(())
    }

    fn keep(&mut self, id: EntryId, attempt: u32, fields: Fields) {
        self.highest = self.highest.max(Some(id));
        self.held.insert(id, Held { attempt, chunk: chunk_of(&fields), fields });
    }

    /// Registers what is held, and makes ready that whose turn has come, in the order of the stream.
    async fn register(&mut self, shared: &Shared) -> Result<(), Error> {
        if self.held.is_empty() && self.registered {
            return Ok(());
        }
        let keys = &shared.keys;
        let highest = self.highest.map_or_else(|| "0-0".to_owned(), |id| id.to_string());
        let names = [&*keys.stream, &*keys.order, &*keys.seen, &*keys.alive];
        let held = &self.held;
        let answer = shared.connection.script(&REGISTER, &names, |command| {
            command.arg(&keys.group).arg(&keys.consumer).arg(highest);
            for (id, entry) in held {
                command.arg(id.to_string()).arg(entry.chunk.map(|chunk| chunk.to_string()).unwrap_or_default());
            }
        });
        let Value::Array(turns) = answer.await? else {
            // Taken for dead: the next turn joins again.
            self.alive.iter().for_each(Alive::lapse);
            return Ok(());
        };
        self.registered = true;
        let turns: Vec<_> = turns.iter().map(|turn| *turn == Value::Int(1)).collect();
        self.pick_suspect(shared, &turns).await?;
        let mut barred = HashSet::new();
        for ((id, held), turn) in std::mem::take(&mut self.held).into_iter().zip(turns) {
            let passes = held.attempt <= SUSPECT || self.suspect == Some(id);
            if turn && passes && !held.chunk.is_some_and(|chunk| barred.contains(&chunk)) {
                let delivery = Delivery { id, attempt: held.attempt, fields: held.fields };
                self.ready.push_back((delivery, held.chunk));
            } else {
                barred.extend(held.chunk);
                self.held.insert(id, held);
            }
        }
        Ok(())
    }

    /// Lets a suspect go, unless one is out: of those whose turn has come, the first of its chunk and the least often
    /// delivered, so that what really kills comes last. It counts as delivered before it is.
    async fn pick_suspect(&mut self, shared: &Shared, turns: &[bool]) -> Result<(), Error> {
        if self.suspect.is_some_and(|id| self.is_out(shared, id)) {
            return Ok(());
        }
        let mut chunks = HashSet::new();
        let suspects = self.held.iter().zip(turns).filter(|((_, held), turn)| **turn && held.attempt > SUSPECT);
        let firsts = suspects.filter(|((_, held), _)| held.chunk.is_none_or(|chunk| chunks.insert(chunk)));
        let Some(((id, held), _)) = firsts.min_by_key(|((_, held), _)| held.attempt) else {
            return Ok(());
        };
        let (id, keys) = (*id, &shared.keys);
        let mut command = redis::cmd("XCLAIM");
        command.arg(&keys.stream).arg(&keys.group).arg(&keys.consumer).arg(0).arg(id.to_string());
        command.arg("RETRYCOUNT").arg(held.attempt).arg("JUSTID");
        shared.connection.query::<Value>(&command).await?;
        self.suspect = Some(id);
        Ok(())
    }

    /// Whether the engine has it, or the next call gets it.
    fn is_out(&self, shared: &Shared, id: EntryId) -> bool {
        self.ready.iter().any(|(delivery, _)| delivery.id == id) || shared.handed_out().contains_key(&id)
    }
}

fn new_entries(shared: &Shared, count: usize, wait: Duration) -> Cmd {
    let keys = &shared.keys;
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(&keys.group).arg(&keys.consumer).arg("COUNT").arg(count);
    if wait >= Duration::from_millis(1) {
        command.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    command.arg("STREAMS").arg(&keys.stream).arg(">");
    command
}
