//! A minimal in-memory bus and system of record, with configurable faults.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Bus, BusErasure, Commit, Committed, Counts, CurrentState, DeadLetter, DeadLetters, Delivery, Depth,
    EntryId, Erasing, Fault, FaultClass, Handover, Letter, MergeScope, MergeTransaction, Outbox, PendingWrite,
    Projection, Row, RowPage, RowsWritten, SystemOfRecord, chunk_of,
};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Target, Time};
use chunk_sync_testkit::empty::EmptyStore;
use tokio::sync::Notify;
use uuid::Uuid;

/// The faults with which operations fail from now on.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) publish: Option<FaultClass>,
    pub(super) depth: Option<FaultClass>,
    pub(super) dead_letter: Option<FaultClass>,
    pub(super) records: Option<FaultClass>,
    pub(super) projections: Option<FaultClass>,
}

/// Bus and system of record in one; also the faults of the projections.
#[derive(Default)]
pub(super) struct World {
    pub(super) faults: Mutex<Faults>,
    /// While set, a publication waits for its notification.
    pub(super) gate: Mutex<Option<Arc<Notify>>>,
    /// Notified when a publication begins.
    pub(super) publishing: Notify,
    waiting: Mutex<VecDeque<Delivery>>,
    more: Notify,
    taken: Mutex<u64>,
    chunks: Mutex<HashMap<Uuid, Commit>>,
    pending_writes: Mutex<Vec<PendingWrite>>,
}

fn fails(class: Option<FaultClass>, context: &'static str) -> Result<(), Fault> {
    class.map_or(Ok(()), |class| Err(Fault::new(class, context, "injected by the test")))
}

impl World {
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    /// Puts an entry on the bus that is not a valid event.
    pub(super) fn malformed(&self) {
        let id = EntryId { millis: 1, sequence: 0 };
        self.waiting.lock().unwrap().push_back(delivery(id, Vec::new()));
        self.more.notify_one();
    }

    /// Adds an entry to the outbox.
    pub(super) fn enqueue(&self, pending_write: PendingWrite) {
        self.pending_writes.lock().unwrap().push(pending_write);
    }
}

#[async_trait]
impl Bus for World {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        self.publishing.notify_one();
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        fails(self.faults().publish, "bus")?;
        let bytes = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
        let mut waiting = self.waiting.lock().unwrap();
        let ids = events.iter().zip(1..).map(|(event, sequence)| {
            let id = EntryId { millis: 1_700_000_000_000, sequence };
            let fields = event.to_fields().into_iter().map(bytes).collect();
            waiting.push_back(delivery(id, fields));
            id
        });
        let ids = ids.collect();
        self.more.notify_one();
        Ok(ids)
    }

    async fn begin(&self, _: Handover) -> Result<(), Fault> {
        Ok(())
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        if self.waiting.lock().unwrap().is_empty() {
            let _ = tokio::time::timeout(wait, self.more.notified()).await;
        }
        let mut waiting = self.waiting.lock().unwrap();
        let n = waiting.len().min(max);
        *self.taken.lock().unwrap() += n as u64;
        Ok(waiting.drain(..n).collect())
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        *self.taken.lock().unwrap() -= ids.len() as u64;
        Ok(())
    }

    async fn recount(&self, _: EntryId, _: u32) -> Result<(), Fault> {
        Ok(())
    }

    async fn erase(&self, chunk: Uuid, _mode: Erasing) -> Result<BusErasure, Fault> {
        let waiting = self.waiting.lock().unwrap();
        let unfinished = waiting.iter().filter(|delivery| chunk_of(&delivery.fields) == Some(chunk)).count() as u64;
        Ok(BusErasure { unfinished, removed: 0 })
    }

    async fn now(&self) -> Result<Time, Fault> {
        Ok(jiff::Timestamp::now().into())
    }

    async fn epoch(&self) -> Result<String, Fault> {
        Ok(String::new())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        fails(self.faults().depth, "depth")?;
        let waiting = self.waiting.lock().unwrap();
        let oldest = waiting.front().map(|delivery| delivery.id);
        Ok(Depth { unread: waiting.len() as u64, pending: *self.taken.lock().unwrap(), dead: 3, oldest })
    }

    async fn trim(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl DeadLetters for World {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        fails(self.faults().dead_letter, "dead letter")?;
        *self.taken.lock().unwrap() -= letters.len() as u64;
        Ok(())
    }

    async fn dead(&self, _: Option<EntryId>, _: usize) -> Result<Vec<Letter>, Fault> {
        Ok(Vec::new())
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        Ok(Some(0))
    }

    async fn drop_dead(&self, _: EntryId) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// A store that accepts every write, or fails with the configured fault.
pub(super) fn store(world: &Arc<World>, target: Target) -> Arc<dyn Projection> {
    let world = Arc::clone(world);
    let answer =
        move || fails(world.faults().projections, "projection").map_or_else(Applied::Failed, |()| Applied::Written);
    Arc::new(EmptyStore::new(target, answer))
}

struct Merge<'a> {
    world: &'a World,
    current: Vec<CurrentState>,
}

#[async_trait]
impl MergeTransaction for Merge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    async fn write(&mut self, _: &[Commit]) -> Result<RowsWritten, Fault> {
        Ok(RowsWritten::Stored(Vec::new()))
    }

    async fn commit(self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        self.world.chunks.lock().unwrap().extend(commits.into_iter().map(|commit| (commit.id, commit)));
        Ok(Committed::Durable)
    }
}

#[async_trait]
impl SystemOfRecord for World {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        Ok(Box::new(Merge { world: self, current: self.current(scope.ids).await? }))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        fails(self.faults().records, "records")?;
        let chunks = self.chunks.lock().unwrap();
        let held = |id: &Uuid| {
            let commit = chunks.get(id).cloned();
            commit
                .map(|c| CurrentState { record: Some(c.record), state: c.state, row: c.row, absence: None })
                .unwrap_or_default()
        };
        Ok(ids.iter().map(held).collect())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        Ok(Counts { chunks: self.chunks.lock().unwrap().len() as u64, others: BTreeMap::new() })
    }

    async fn rows(&self, _: Option<Uuid>, _: usize) -> Result<RowPage, Fault> {
        Ok(RowPage { is_last: true, ..RowPage::default() })
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        Ok(vec![None; ids.len()])
    }
}

#[async_trait]
impl Outbox for World {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.pending_writes.lock().unwrap().extend_from_slice(pending_writes);
        Ok(())
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        Ok(self
            .pending_writes
            .lock()
            .unwrap()
            .iter()
            .filter(|pending_write| pending_write.target == target)
            .take(limit)
            .copied()
            .collect())
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.pending_writes.lock().unwrap().retain(|pending_write| !pending_writes.contains(pending_write));
        Ok(())
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        let mut counts = BTreeMap::new();
        for pending_write in self.pending_writes.lock().unwrap().iter() {
            *counts.entry(pending_write.target).or_default() += 1;
        }
        Ok(counts)
    }
}

chunk_sync_testkit::no_absence!(World);
chunk_sync_testkit::no_conflicts!(World);
chunk_sync_testkit::no_upkeep!(World);

fn delivery(id: EntryId, fields: Fields) -> Delivery {
    let now = jiff::Timestamp::now().into();
    Delivery { id, attempt: 1, again: false, added_at: now, read_at: now, fields }
}
