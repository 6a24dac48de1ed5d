//! Reading: what this consumer had and lost sight of, what dead ones left, what is new; each handed out once its turn in
//! its chunk has come.
//!
//! The reader works in turns, each a task of its own that nothing but the end of the bus cuts short: a call that is
//! dropped leaves it alone, and the next call takes what it brought.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Delivery, EntryId};
use chunk_sync_model::event::Fields;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use super::Shared;
use super::alive::Alive;
use super::answer;
use super::fault::Error;
use super::order::{CLAIM, REGISTER, chunk_of};

/// How often held back entries are looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// The longest that one read waits in the server, so that the dead are looked for meanwhile.
const LONGEST_BLOCK: Duration = Duration::from_secs(1);

/// Entries handled by one command.
const PAGE: usize = 1_000;

/// Where calls and turns meet.
#[derive(Default)]
pub(super) struct Desk {
    /// Away while a turn is under way.
    reader: Option<Reader>,
    under_way: Option<Turn>,
}

/// A turn under way; ends with the bus.
struct Turn(JoinHandle<(Reader, Result<(), Error>)>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Desk {
    /// Up to `max` entries whose turn has come; waits until `deadline` for the first.
    pub(super) async fn read(
        &mut self,
        shared: &Arc<Shared>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Delivery>, Error> {
        let mut looked = false;
        loop {
            let deliveries = self.reader.as_mut().map(|reader| reader.take_ready(shared, max)).unwrap_or_default();
            let wait = deadline.saturating_duration_since(Instant::now());
            if !deliveries.is_empty() || (looked && wait.is_zero()) {
                return Ok(deliveries);
            }
            self.turn(shared, max, wait).await?;
            looked = true;
        }
    }

    async fn turn(&mut self, shared: &Arc<Shared>, max: usize, wait: Duration) -> Result<(), Error> {
        let under_way = self.under_way.get_or_insert_with(|| {
            // One that got lost has left everything in the server's list.
            let reader = self.reader.take().unwrap_or_default();
            Turn(tokio::spawn(reader.turn(Arc::clone(shared), max, wait)))
        });
        let ended = (&mut under_way.0).await;
        self.under_way = None;
        let (reader, result) = ended?;
        self.reader = Some(reader);
        result
    }
}

/// What this consumer has read and what it does next.
#[derive(Default)]
struct Reader {
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
}

struct Held {
    attempt: u32,
    chunk: Option<Uuid>,
    fields: Fields,
}

impl Reader {
    /// Hands out. Nothing is waited for here: a call that is dropped has taken nothing.
    fn take_ready(&mut self, shared: &Shared, max: usize) -> Vec<Delivery> {
        let mut handed_out = shared.handed_out();
        let ready = self.ready.drain(..max.min(self.ready.len()));
        let hand = |(delivery, chunk): (Delivery, _)| {
            handed_out.insert(delivery.id, chunk);
            delivery
        };
        ready.map(hand).collect()
    }

    async fn turn(mut self, shared: Arc<Shared>, max: usize, wait: Duration) -> (Self, Result<(), Error>) {
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

    /// Fetches what the server says this consumer has, and neither it nor the engine knows of.
    async fn look_for_missed(&mut self, shared: &Shared) -> Result<(), Error> {
        let keys = &shared.keys;
        let mut after = "-".to_owned();
        loop {
            let mut command = redis::cmd("XPENDING");
            command.arg(&keys.stream).arg(&keys.group).arg(&after).arg("+").arg(PAGE).arg(&keys.consumer);
            let page = answer::pending(shared.connection.query(&command).await?)?;
            self.take_missed(shared, &page).await?;
            match page.last() {
                Some(last) if page.len() == PAGE => after = format!("({}", last.id),
                _ => break,
            }
        }
        self.nothing_missed = true;
        Ok(())
    }

    async fn take_missed(&mut self, shared: &Shared, page: &[answer::Pending]) -> Result<(), Error> {
        let missed: Vec<_> = page.iter().filter(|entry| !self.knows(shared, entry.id)).collect();
        if missed.is_empty() {
            return Ok(());
        }
        info!(entries = missed.len(), "taking up what was read and has not been handed out");
        let keys = &shared.keys;
        let mut command = redis::cmd("XCLAIM");
        command.arg(&keys.stream).arg(&keys.group).arg(&keys.consumer).arg(0);
        for entry in &missed {
            command.arg(entry.id.to_string());
        }
        let entries = answer::entries(shared.connection.query(&command).await?)?;
        let mut found: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.id, entry.fields)).collect();
        for entry in missed {
            match found.remove(&entry.id) {
                Some(fields) => self.keep(entry.id, entry.deliveries.saturating_add(1), fields),
                None => shared.lose(entry.id),
            }
        }
        Ok(())
    }

    fn knows(&self, shared: &Shared, id: EntryId) -> bool {
        self.held.contains_key(&id)
            || self.ready.iter().any(|(delivery, _)| delivery.id == id)
            || shared.handed_out().contains_key(&id)
    }

    /// Takes what dead consumers left; whether there was any.
    async fn claim(&mut self, shared: &Shared, max: usize) -> Result<bool, Error> {
        let every = (shared.alive_for / 5).min(LONGEST_BLOCK);
        if self.claimed_at.is_some_and(|at| at.elapsed() < every) {
            return Ok(false);
        }
        // After a pause of the server all keys have vanished: the living get as long to renew them as they had before.
        let silent = self.joined_at.is_some_and(|at| at.elapsed() >= shared.alive_for);
        let idle = u64::try_from(shared.claim_after.as_millis()).unwrap_or(u64::MAX);
        let keys = &shared.keys;
        self.nothing_missed = false;
        let names = [&*keys.stream, &*keys.seen];
        let answer = shared.connection.script(&CLAIM, &names, |command| {
            command.arg(&keys.group).arg(&keys.consumer).arg(&keys.alive_prefix);
            command.arg(max.clamp(1, PAGE)).arg(idle).arg(u8::from(silent));
        });
        let mut parts = answer::list(answer.await?)?.into_iter();
        let (Some(entries), Some(deliveries), Some(gone)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::Answer("what was claimed"));
        };
        let (entries, deliveries) = (answer::entries(entries)?, answer::list(deliveries)?);
        let claimed = !entries.is_empty();
        if claimed {
            info!(entries = entries.len(), "took over what another worker had not finished");
        }
        for (entry, deliveries) in entries.into_iter().zip(&deliveries) {
            self.keep(entry.id, answer::count(deliveries)?, entry.fields);
        }
        for id in answer::list(gone)? {
            shared.lose(answer::entry_id(id)?);
        }
        self.nothing_missed = true;
        // There may be more: then the next turn asks again at once.
        self.claimed_at = (!claimed || self.held.len() >= 2 * max).then(Instant::now);
        Ok(claimed)
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
        for ((id, held), turn) in std::mem::take(&mut self.held).into_iter().zip(turns) {
            if turn == Value::Int(1) {
                let delivery = Delivery { id, attempt: held.attempt, fields: held.fields };
                self.ready.push_back((delivery, held.chunk));
            } else {
                self.held.insert(id, held);
            }
        }
        Ok(())
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
