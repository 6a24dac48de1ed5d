//! The chunks that have waiting events, and when each is tried again. Kept in memory for one term and loaded from the
//! table when the term begins, so that every event of such a chunk is put behind those that wait.
//!
//! The worker adds a chunk here before it adds its event to the table. The drain removes a chunk once the table has no
//! event of it, unless the worker has added one meanwhile: so at no time has the table an event of a chunk that is not
//! here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::pipeline::waiting_amount::WaitingAmount;
use crate::runtime::settings::WorkerSettings;

/// The chunks. One process adds to it, the holder of the lease.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    chunks: Mutex<HashMap<Uuid, Chunk>>,
    changed: Notify,
    /// How much their events are.
    pub(crate) amount: WaitingAmount,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Grows when the addition of an event begins and when it ends.
    added: u64,
    /// Events that are being added to the table.
    adding: u32,
    /// How often it was tried in this term, without success.
    tries: u32,
    /// When it first waited in this term.
    since: Instant,
    /// Since when a row of another table that its row refers to has been missing.
    lacks_parent: Option<Instant>,
    due: Instant,
}

impl Chunk {
    fn new(now: Instant, due: Instant) -> Self {
        Self { added: 0, adding: 0, tries: 0, since: now, lacks_parent: None, due }
    }
}

/// A chunk that is tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) chunk: Uuid,
    /// How long it has waited in this term.
    pub(crate) waited: Duration,
    added: u64,
}

impl WaitingRoom {
    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        Self { chunks: Mutex::default(), changed: Notify::default(), amount: WaitingAmount::new(settings) }
    }

    /// Adds the chunks that the table has.
    pub(crate) fn load(&self, chunks: impl IntoIterator<Item = Uuid>) {
        let now = Instant::now();
        let mut room = self.lock();
        for chunk in chunks {
            room.entry(chunk).or_insert(Chunk::new(now, now));
        }
        drop(room);
        self.changed.notify_one();
    }

    /// Forgets every chunk: a term begins.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn contains(&self, chunk: Uuid) -> bool {
        self.lock().contains_key(&chunk)
    }

    /// The number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Notes that an event of the chunk is about to be added to the table; it is tried after `pause` for the first time.
    pub(crate) fn begin_add(&self, chunk: Uuid, pause: Duration) {
        let now = Instant::now();
        let mut room = self.lock();
        let entry = room.entry(chunk).or_insert(Chunk::new(now, now + pause));
        entry.added += 1;
        entry.adding += 1;
    }

    /// Notes that the event is in the table.
    pub(crate) fn end_add(&self, chunk: Uuid) {
        if let Some(entry) = self.lock().get_mut(&chunk) {
            entry.adding = entry.adding.saturating_sub(1);
            // A reader of the table that began before this instant may not have seen the event.
            entry.added += 1;
        }
        self.changed.notify_one();
    }

    /// Waits until a chunk is due.
    pub(crate) async fn until_due(&self) {
        loop {
            let changed = self.changed.notified();
            let next = self.lock().values().map(|chunk| chunk.due).min();
            match next {
                Some(due) if due <= Instant::now() => return,
                Some(due) => drop(tokio::time::timeout_at(due, changed).await),
                None => changed.await,
            }
        }
    }

    /// Up to `most` chunks that are due, the longest due first. Each is due again after `pause` unless it is put off or
    /// forgotten.
    pub(crate) fn take_due(&self, most: usize, pause: Duration) -> Vec<Due> {
        let now = Instant::now();
        let mut room = self.lock();
        let mut due: Vec<(Instant, Uuid)> =
            room.iter().filter(|(_, chunk)| chunk.due <= now).map(|(id, chunk)| (chunk.due, *id)).collect();
        due.sort_unstable();
        due.truncate(most);
        let taken = due.into_iter().filter_map(|(_, id)| {
            let chunk = room.get_mut(&id)?;
            chunk.due = now + pause;
            Some(Due { chunk: id, waited: now.duration_since(chunk.since), added: chunk.added })
        });
        taken.collect()
    }

    /// Notes that the chunk was tried in vain; it is due again after a pause that doubles from `first` to `longest`.
    pub(crate) fn put_off(&self, chunk: Uuid, first: Duration, longest: Duration) {
        if let Some(entry) = self.lock().get_mut(&chunk) {
            entry.due = Instant::now() + first.saturating_mul(1 << entry.tries.min(16)).min(longest);
            entry.tries = entry.tries.saturating_add(1);
        }
    }

    /// Notes that the parent row of the chunk is missing, and returns for how long it has been; zero for a chunk that is
    /// not here yet.
    pub(crate) fn lacks_parent(&self, chunk: Uuid) -> Duration {
        let now = Instant::now();
        let mut room = self.lock();
        let since = room.get_mut(&chunk).map(|entry| *entry.lacks_parent.get_or_insert(now));
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// Notes that an event of the chunk has ended: what waits behind it is due at once.
    pub(crate) fn proceed(&self, chunk: Uuid) {
        if let Some(entry) = self.lock().get_mut(&chunk) {
            (entry.due, entry.tries, entry.lacks_parent) = (Instant::now(), 0, None);
        }
        self.changed.notify_one();
    }

    /// Forgets a chunk of which the table had no event when it was read after `due` was taken.
    pub(crate) fn forget(&self, due: Due) {
        let mut room = self.lock();
        if room.get(&due.chunk).is_some_and(|chunk| chunk.added == due.added && chunk.adding == 0) {
            room.remove(&due.chunk);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Chunk>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_chunk_is_forgotten_only_if_nothing_was_added_meanwhile() {
        let (room, chunk) = (WaitingRoom::new(&WorkerSettings::default()), Uuid::max());
        room.load([chunk]);
        let due = room.take_due(10, PAUSE)[0];
        room.begin_add(chunk, PAUSE);
        room.forget(due);
        assert!(room.contains(chunk), "an event is being added");
        room.end_add(chunk);
        room.forget(due);
        assert!(room.contains(chunk), "an event was added after the table was read");
        tokio::time::advance(PAUSE).await;
        room.begin_add(chunk, PAUSE);
        let due = room.take_due(10, PAUSE)[0];
        room.end_add(chunk);
        room.forget(due);
        assert!(room.contains(chunk), "the table was read before the event was in it");
        tokio::time::advance(PAUSE).await;
        room.forget(room.take_due(10, PAUSE)[0]);
        assert!(!room.contains(chunk) && room.len() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let (room, chunk) = (WaitingRoom::new(&WorkerSettings::default()), Uuid::max());
        room.load([chunk]);
        let began = Instant::now();
        let mut tried = Vec::new();
        for _ in 0..5 {
            room.until_due().await;
            assert_eq!(room.take_due(10, PAUSE).len(), 1);
            tried.push(began.elapsed().as_secs());
            room.put_off(chunk, PAUSE, PAUSE * 4);
        }
        assert_eq!(tried, [0, 1, 3, 7, 11]);
        room.proceed(chunk);
        room.until_due().await;
        assert_eq!(room.take_due(10, PAUSE).len(), 1);
    }
}
