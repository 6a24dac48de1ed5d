//! Reading: what this consumer had and lost sight of, what dead ones left, what is new; each handed out once its turn in
//! its chunk has come.
//!
//! The reader works in turns, each a task of its own that nothing but the end of the bus cuts short.

mod pending;
mod turns;

use std::collections::{BTreeMap, VecDeque};
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
use super::ledger::Page;
use super::order::chunk_of;

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
    ready: VecDeque<(Delivery, Option<Page>)>,
    /// The suspect entry handed out last.
    suspect: Option<EntryId>,
    /// Lines of the register that are void, by their pages. They stay there until the others know that this consumer has
    /// to register anew what stood on them, or until it has.
    void: Vec<Page>,
}

struct Held {
    /// Which delivery it is; of a suspect, which it will be.
    attempt: u32,
    chunk: Option<Uuid>,
    /// Where it is registered; `None` if it is not yet, or is about no chunk.
    page: Option<Page>,
    fields: Fields,
}

impl Reader {
    /// Hands out. Nothing is waited for here: a call that is dropped has taken nothing.
    pub(super) fn take_ready(&mut self, shared: &Shared, max: usize) -> Vec<Delivery> {
        let mut ledger = shared.ledger();
        let ready = self.ready.drain(..max.min(self.ready.len()));
        let hand = |(delivery, page): (Delivery, _)| {
            ledger.hand_out(delivery.id, page);
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
        self.void.extend(self.held.values_mut().filter_map(|held| held.page.take()));
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
        self.take_turns(shared).await
    }

    /// Joins, also anew after this consumer was taken for dead: what it has here may be somebody else's by now, and what
    /// is not is found in its list.
    async fn join(&mut self, shared: &Arc<Shared>) -> Result<(), Error> {
        if self.alive.as_ref().is_some_and(|alive| !alive.has_lapsed()) {
            return Ok(());
        }
        if self.alive.take().is_some() {
            warn!(consumer = shared.keys.consumer, "was silent too long and counted as dead: joining again");
            let held = std::mem::take(&mut self.held).into_values().filter_map(|held| held.page);
            self.void.extend(held.chain(self.ready.drain(..).filter_map(|(_, page)| page)));
        }
        (self.nothing_missed, self.registered) = (false, false);
        self.alive = Some(Alive::join(shared).await?);
        self.joined_at = Some(Instant::now());
        self.strike_void(shared);
        Ok(())
    }

    fn strike_void(&mut self, shared: &Shared) {
        let mut ledger = shared.ledger();
        self.void.drain(..).for_each(|page| ledger.strike(page));
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
        self.held.insert(id, Held { attempt, chunk: chunk_of(&fields), page: None, fields });
    }

    /// Whether the engine has it, or the next call gets it.
    fn is_out(&self, shared: &Shared, id: EntryId) -> bool {
        self.ready.iter().any(|(delivery, _)| delivery.id == id) || shared.ledger().is_handed_out(id)
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
