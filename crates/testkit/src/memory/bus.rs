//! The bus in memory: a server that several processes share and that outlives them all. One of them reads at a time; a
//! process that reads out of turn takes entries, which the reader then takes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, FinishedBy,
    Handover, Letter, chunk_of, read_together,
};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::streams::{Streams, entry_id, fields_of};

/// How long a publisher waits for room before the bus answers that it is full.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// The bus as one process sees it. Its clones are the same process.
#[derive(Clone)]
pub struct MemoryBus {
    server: Arc<Server>,
    process: u64,
}

struct Server {
    streams: Mutex<Streams>,
    /// Maximum number of unfinished entries.
    bound: usize,
    finished_by: FinishedBy,
    published: Notify,
    finished: Notify,
    /// The server's clock.
    clock: Mutex<ServerClock>,
    trims: AtomicBool,
}

/// Returns the time of a server.
type ServerClock = Arc<dyn Fn() -> Time + Send + Sync>;

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl MemoryBus {
    /// An empty bus that holds at most `bound` unfinished entries, as its first process sees it.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self::of(bound, FinishedBy::Acknowledgement)
    }

    /// The same with `finished_by`. For a merge see [`MemoryRecords::beside`](super::MemoryRecords::beside).
    #[must_use]
    pub fn of(bound: usize, finished_by: FinishedBy) -> Self {
        let (published, finished) = (Notify::new(), Notify::new());
        let clock: ServerClock = Arc::new(|| jiff::Timestamp::now().into());
        let clock = Mutex::new(clock);
        let trims = AtomicBool::new(true);
        let server = Server { streams: Mutex::default(), bound, finished_by, published, finished, clock, trims };
        Self { server: Arc::new(server), process: 0 }.another()
    }

    /// Sets the server's clock.
    pub fn set_clock(&self, clock: impl Fn() -> Time + Send + Sync + 'static) {
        *self.server.clock.lock().unwrap() = Arc::new(clock);
    }

    pub(super) fn time(&self) -> Time {
        let clock = Arc::clone(&self.server.clock.lock().unwrap());
        clock()
    }

    /// From now on the bus cannot be trimmed.
    pub fn refuse_trims(&self) {
        self.server.trims.store(false, Ordering::Relaxed);
    }

    /// The same bus as another process sees it.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut streams = self.server.streams.lock().unwrap();
        streams.processes += 1;
        let process = streams.processes;
        streams.living.insert(process);
        drop(streams);
        Self { server: Arc::clone(&self.server), process }
    }

    /// Ends this process: its entries go to the others.
    pub fn end(&self) {
        self.server.streams.lock().unwrap().living.remove(&self.process);
        self.server.published.notify_waiters();
    }

    /// Hands entries out once more, as if they had not arrived.
    pub fn hand_back(&self, ids: &[EntryId]) {
        let mut streams = self.server.streams.lock().unwrap();
        for id in ids {
            if let Some(entry) = streams.entries.get_mut(&id.sequence) {
                entry.holder = None;
            }
        }
        drop(streams);
        self.server.published.notify_waiters();
    }

    /// Loses unfinished entries for ever, as a server that crashes may; returns how many.
    pub fn forget(&self, which: impl Fn(&[(Vec<u8>, Vec<u8>)]) -> bool) -> u64 {
        let mut streams = self.server.streams.lock().unwrap();
        let before = streams.entries.len();
        streams.entries.retain(|_, entry| !which(&entry.fields));
        let lost = before - streams.entries.len();
        streams.losses += u64::from(lost > 0);
        drop(streams);
        self.server.finished.notify_waiters();
        lost as u64
    }

    /// Whether an unfinished entry matches.
    #[must_use]
    pub fn holds(&self, which: impl Fn(&[(Vec<u8>, Vec<u8>)]) -> bool) -> bool {
        self.server.streams.lock().unwrap().entries.values().any(|entry| which(&entry.fields))
    }

    /// How often an unfinished entry was handed out; `None` for a finished one.
    #[must_use]
    pub fn attempts(&self, id: EntryId) -> Option<u32> {
        self.server.streams.lock().unwrap().entries.get(&id.sequence).map(|entry| entry.attempts)
    }

    /// Adds an entry with any fields, as a foreign client of a server could.
    pub fn add(&self, fields: Fields) -> EntryId {
        let id = self.server.streams.lock().unwrap().add(fields, self.time());
        self.server.published.notify_waiters();
        id
    }

    /// Publishes like a transaction that commits late: its entries get their numbers now, and can be read only after
    /// `delay`, when later numbers may have been read. If the future is dropped before, nothing is published.
    ///
    /// # Errors
    /// [`FaultClass::Busy`] if the bus stays full for 5 s.
    pub async fn publish_late(&self, events: &[Event], delay: Duration) -> Result<Vec<EntryId>, Fault> {
        self.room().await?;
        let numbers: Vec<u64> = {
            let mut streams = self.server.streams.lock().unwrap();
            events.iter().map(|_| streams.next_id()).collect()
        };
        tokio::time::sleep(delay).await;
        let mut streams = self.server.streams.lock().unwrap();
        for (number, event) in numbers.iter().zip(events) {
            streams.insert(*number, fields_of(event), self.time());
        }
        drop(streams);
        self.server.published.notify_waiters();
        Ok(numbers.into_iter().map(entry_id).collect())
    }

    /// Finishes entries, by an acknowledgement or a merge.
    pub(super) fn finish(&self, ids: &[EntryId]) {
        let mut streams = self.server.streams.lock().unwrap();
        ids.iter().for_each(|id| drop(streams.entries.remove(&id.sequence)));
        drop(streams);
        // Readers that waited for an entry of the same chunk can continue, too.
        self.server.published.notify_waiters();
        self.server.finished.notify_waiters();
    }

    /// Waits until the bus has room for one more.
    async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            let finished = self.server.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            if self.server.streams.lock().unwrap().entries.len() < self.server.bound {
                return Ok(());
            }
            if timeout_at(deadline, finished).await.is_err() {
                return Err(Fault::new(FaultClass::Busy, "memory", "the bus is full"));
            }
        }
    }
}

#[async_trait]
impl Bus for MemoryBus {
    fn finished_by(&self) -> FinishedBy {
        self.server.finished_by
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.room().await?;
        let mut streams = self.server.streams.lock().unwrap();
        let mut add = |event: &Event| streams.add(fields_of(event), self.time());
        let ids = events.iter().map(&mut add).collect();
        drop(streams);
        self.server.published.notify_waiters();
        Ok(ids)
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.server.streams.lock().unwrap().begin(handover);
        Ok(())
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            // Subscribes before it reads, so that an entry published in between wakes it.
            let published = self.server.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            let deliveries = self.server.streams.lock().unwrap().take(self.process, max, self.time());
            if !deliveries.is_empty() || timeout_at(deadline, published).await.is_err() {
                return Ok(deliveries);
            }
        }
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.finish(ids);
        Ok(())
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        self.server.streams.lock().unwrap().recount(id, attempt);
        Ok(())
    }

    async fn erase(&self, chunk: Uuid, _mode: Erasing) -> Result<BusErasure, Fault> {
        let streams = self.server.streams.lock().unwrap();
        let unfinished = streams.entries.values().filter(|entry| chunk_of(&entry.fields) == Some(chunk)).count() as u64;
        Ok(BusErasure { unfinished, removed: 0 })
    }

    async fn now(&self) -> Result<Time, Fault> {
        Ok(self.time())
    }

    async fn epoch(&self) -> Result<String, Fault> {
        Ok(self.server.streams.lock().unwrap().losses.to_string())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        Ok(self.server.streams.lock().unwrap().depth())
    }

    async fn trim(&self) -> Result<u64, Fault> {
        match self.server.trims.load(Ordering::Relaxed) {
            // An acknowledgement removes its entry, so no finished entry is left.
            true => Ok(0),
            false => Err(Fault::new(FaultClass::Unavailable, "memory bus: trim", "cannot be trimmed")),
        }
    }
}

#[async_trait]
impl DeadLetters for MemoryBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.server.streams.lock().unwrap().dead_letter(letters);
        self.acknowledge(&letters.iter().filter_map(|letter| letter.id).collect::<Vec<_>>()).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        let first = after.map_or(0, |after| after.sequence + 1);
        let streams = self.server.streams.lock().unwrap();
        let letter = |(id, fields): (&u64, &Fields)| Letter { id: entry_id(*id), fields: fields.clone() };
        let length = |letter: &Letter| letter.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let mut found: Vec<Letter> = streams.dead.range(first..).take(limit).map(letter).collect();
        found.truncate(read_together(found.iter().map(length)));
        Ok(found)
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        let streams = self.server.streams.lock().unwrap();
        let fields = streams.dead.values().flatten();
        Ok(Some(fields.map(|(name, value)| (name.len() + value.len()) as u64).sum()))
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        Ok(self.server.streams.lock().unwrap().dead.remove(&id.sequence).is_some())
    }
}
