//! The ports as a process sees them through injected faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Bus, BusErasure, Commit, Committed, ConflictFilter, ConflictLog, ConflictRecord, Counts, CurrentState,
    DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, FinishedBy, Handover, Lease,
    LeaseState, Letter, MergeScope, MergeTransaction, Outbox, PendingWrite, Projection, Records, Row, RowsWritten,
    StoredDocument, StoredFingerprint, SystemOfRecord, WatchList, Watched, Write,
};
use chunk_sync_model::document::Fingerprint;
use chunk_sync_model::{Event, State, Target, Time};
use tokio::time::sleep;
use uuid::Uuid;

use super::faults::{Fate, Way};
use super::oracle::Oracle;
use crate::memory::{MemoryBus, MemoryLease};

pub(super) struct WeatheredBus {
    pub(super) bus: Arc<dyn Bus>,
    /// The same bus, to hand back entries that did not arrive.
    pub(super) memory: MemoryBus,
    pub(super) way: Way,
    pub(super) oracle: Arc<Oracle>,
    /// Some published entries become readable late.
    pub(super) commits_late: bool,
}

impl WeatheredBus {
    /// Draws whether the next publication commits late, and by how much.
    fn lateness(&self) -> Option<Duration> {
        let mut fault_state = self.way.faults.fault_state();
        (self.commits_late && fault_state.rng.one_in(4))
            .then(|| Duration::from_millis(fault_state.rng.below(3_000) as u64))
    }
}

#[async_trait]
impl Bus for WeatheredBus {
    fn finished_by(&self) -> FinishedBy {
        self.bus.finished_by()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.bus.prepare()).await
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        let publish = async {
            let ids = match self.lateness() {
                Some(delay) => self.memory.publish_late(events, delay).await?,
                None => self.bus.publish(events).await?,
            };
            self.oracle.published(&ids, events);
            Ok(ids)
        };
        self.way.call(publish).await
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.way.call(self.bus.begin(handover)).await
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let fate = self.way.set_out().await;
        if let Fate::Refused(fault) = fate {
            return Err(fault);
        }
        let deliveries = self.way.unless_dead(self.bus.read(max, wait)).await?;
        let ids: Vec<EntryId> = deliveries.iter().map(|delivery| delivery.id).collect();
        if matches!(fate, Fate::Lost) {
            self.memory.hand_back(&ids);
            return Err(self.way.lost());
        }
        {
            // As after a claim of the entry for lost: it is delivered now, and once more.
            let mut fault_state = self.way.faults.fault_state();
            fault_state.tally.deliveries += deliveries.len() as u64;
            fault_state.tally.redelivered += deliveries.iter().filter(|delivery| delivery.attempt > 1).count() as u64;
            let calm = fault_state.is_calm();
            let again: Vec<EntryId> = ids.into_iter().filter(|_| !calm && fault_state.rng.one_in(50)).collect();
            if !again.is_empty() {
                self.memory.hand_back(&again);
            }
        }
        self.way.come_back().await;
        Ok(deliveries)
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.way.call(self.bus.acknowledge(ids)).await
    }

    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault> {
        self.way.call(self.bus.erase(chunk, mode)).await
    }

    async fn now(&self) -> Result<Time, Fault> {
        self.way.call(self.bus.now()).await
    }

    async fn epoch(&self) -> Result<String, Fault> {
        self.way.call(self.bus.epoch()).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.way.call(self.bus.depth()).await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        self.way.call(self.bus.trim()).await
    }
}

#[async_trait]
impl DeadLetters for WeatheredBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.way.call(self.bus.dead_letter(letters)).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        self.way.call(self.bus.dead(after, limit)).await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        self.way.call(self.bus.drop_dead(id)).await
    }
}

pub(super) struct WeatheredStore {
    pub(super) store: Arc<dyn Projection>,
    pub(super) way: Way,
    pub(super) oracle: Arc<Oracle>,
    pub(super) poison: Option<Poisoned>,
}

/// A chunk that a store can never hold.
#[derive(Clone, Copy)]
pub(super) struct Poisoned {
    pub(super) id: Uuid,
    pub(super) kills: bool,
}

impl Poisoned {
    /// Panics, or returns the refusal.
    fn refuse(self) -> Fault {
        if self.kills {
            // No panic message: this panic is intended.
            std::panic::resume_unwind(Box::new("poison"));
        }
        Fault::new(FaultClass::Rejected, "simulation", "no store can hold this chunk")
    }
}

impl WeatheredStore {
    /// Applies writes whose call timed out while they were in progress. A store that forgets the version with the chunk
    /// takes any write.
    fn come_late(&self, writes: Vec<Write>, delay: Duration) {
        let (store, oracle, faults) = (Arc::clone(&self.store), Arc::clone(&self.oracle), Arc::clone(&self.way.faults));
        faults.fault_state().on_the_way += 1;
        tokio::spawn(async move {
            sleep(delay).await;
            apply_watched(&*store, &oracle, &writes).await;
            faults.fault_state().on_the_way -= 1;
        });
    }

    /// Draws whether a call without an answer is applied late, and by how much.
    fn lateness(&self) -> Option<Duration> {
        let mut fault_state = self.way.faults.fault_state();
        let late = fault_state.rng.one_in(3);
        fault_state.tally.late += u64::from(late);
        let longest = [20_000, 300_000][fault_state.rng.below(2)];
        late.then(|| Duration::from_millis(fault_state.rng.below(longest) as u64))
    }

    /// Draws which writes of a batch fail on their own.
    fn failing(&self, writes: &[Write]) -> Vec<bool> {
        let mut fault_state = self.way.faults.fault_state();
        let some = !fault_state.is_calm() && fault_state.rng.one_in(20);
        writes.iter().map(|_| some && fault_state.rng.one_in(3)).collect()
    }
}

/// Applies the writes and reports them to the oracle. Stores in memory answer at once, so no other write intervenes.
async fn apply_watched(store: &dyn Projection, oracle: &Oracle, writes: &[Write]) -> Vec<Applied> {
    let ids: Vec<Uuid> = writes.iter().map(|write| write.id).collect();
    let before = store.fetch_fingerprints(&ids).await.unwrap_or_default();
    let answers = store.apply(writes).await;
    let after = store.fetch_fingerprints(&ids).await.unwrap_or_default();
    for (before, after) in before.iter().zip(&after) {
        if let (Some(before), Some(after)) = (before, after) {
            oracle.store_went(store.target(), before, after);
        }
    }
    answers
}

fn failed() -> Fault {
    Fault::new(FaultClass::Busy, "simulation", "the write failed")
}

#[async_trait]
impl Projection for WeatheredStore {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.store.prepare()).await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let fate = self.way.set_out().await;
        if let Fate::Refused(fault) = fate {
            return vec![Applied::Failed(fault); writes.len()];
        }
        if matches!(fate, Fate::Lost) {
            let poison = self.poison.map(|poison| poison.id);
            let sound: Vec<Write> =
                writes.iter().filter(|w| w.state.is_none() || Some(w.id) != poison).cloned().collect();
            match self.lateness() {
                Some(delay) => self.come_late(sound, delay),
                None => drop(apply_watched(&*self.store, &self.oracle, &sound).await),
            }
            self.way.come_back().await;
            return vec![Applied::Failed(self.way.lost()); writes.len()];
        }
        let poison = self.poison.filter(|poison| writes.iter().any(|w| w.id == poison.id && w.state.is_some()));
        let refusal = poison.map(Poisoned::refuse);
        let mut failing = self.failing(writes);
        if let Some(poison) = poison {
            failing.iter_mut().zip(writes).for_each(|(fails, write)| *fails |= write.id == poison.id);
        }
        let sound: Vec<Write> =
            writes.iter().zip(&failing).filter(|(_, fails)| !**fails).map(|(write, _)| write.clone()).collect();
        let mut answers = apply_watched(&*self.store, &self.oracle, &sound).await.into_iter();
        let answers = failing.into_iter().zip(writes).map(|(fails, write)| match &refusal {
            _ if !fails => answers.next().unwrap(),
            Some(fault) if poison.is_some_and(|poison| poison.id == write.id) => Applied::Failed(fault.clone()),
            _ => Applied::Failed(failed()),
        });
        let answers = answers.collect();
        self.way.come_back().await;
        answers
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.way.call(self.store.fetch_documents(ids)).await
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        self.way.call(self.store.scan_fingerprints(after, limit)).await
    }

    fn expect(&self, state: &State) -> Fingerprint {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.way.call(self.store.counts()).await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.way.call(self.store.check()).await
    }
}

pub(super) struct WeatheredLease {
    pub(super) lease: Arc<dyn Lease>,
    pub(super) way: Way,
}

#[async_trait]
impl Lease for WeatheredLease {
    async fn state(&self) -> Result<LeaseState, Fault> {
        self.way.call(self.lease.state()).await
    }

    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault> {
        self.way.call(self.lease.take(seen, token)).await
    }

    async fn renew(&self, token: Uuid) -> Result<bool, Fault> {
        self.way.call(self.lease.renew(token)).await
    }

    async fn release(&self, token: Uuid) -> Result<(), Fault> {
        self.way.call(self.lease.release(token)).await
    }
}

pub(super) struct WeatheredRecords {
    pub(super) records: Arc<dyn Records>,
    /// The lease itself, without faults: which process really holds it.
    pub(super) lease: MemoryLease,
    pub(super) way: Way,
    pub(super) oracle: Arc<Oracle>,
    pub(super) poison: Option<Poisoned>,
}

/// An open merge through faults. The oracle sees what it reads and what it commits.
struct WeatheredMerge<'a> {
    through: &'a WeatheredRecords,
    merge: Box<dyn MergeTransaction + 'a>,
    current: Vec<CurrentState>,
    token: Option<Uuid>,
}

#[async_trait]
impl MergeTransaction for WeatheredMerge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
        self.merge.write(commits).await
    }

    async fn commit(self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        let Self { through, merge, token, .. } = *self;
        let commit = async {
            let holds = token.is_some_and(|token| through.lease.is_held_by(token));
            let committed = merge.commit(commits.clone()).await?;
            if committed == Committed::Durable {
                if !commits.is_empty() && !holds {
                    through.oracle.broke("a process merged that does not hold the lease".into());
                }
                through.oracle.merged(&commits);
            }
            Ok(committed)
        };
        through.way.call(commit).await
    }
}

#[async_trait]
impl SystemOfRecord for WeatheredRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.records.prepare()).await
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        let poison = self.poison.filter(|poison| scope.ids.contains(&poison.id));
        let begin = async {
            if let Some(time) = self.way.faults.sleeps_over_merge() {
                self.way.life.fall_asleep(time);
            }
            if let Some(poison) = poison {
                return Err(poison.refuse());
            }
            let mut merge = self.records.begin(scope).await?;
            let current = merge.current();
            self.oracle.held(scope.ids, &current);
            Ok(WeatheredMerge { through: self, merge, current, token: scope.fence.lease })
        };
        Ok(Box::new(self.way.call(begin).await?))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        self.way.call(self.records.current(ids)).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        self.way.call(self.records.rows(after, limit)).await
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        self.way.call(self.records.rows_of(ids)).await
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.way.call(self.records.counts()).await
    }
}

#[async_trait]
impl Outbox for WeatheredRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.way.faults.fault_state().tally.pending_writes += pending_writes.len() as u64;
        self.way.call(self.records.enqueue(pending_writes)).await
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        self.way.call(self.records.pending_writes(target, limit)).await
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.way.call(self.records.drained(pending_writes)).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        self.way.call(self.records.outbox_counts()).await
    }
}

#[async_trait]
impl ConflictLog for WeatheredRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault> {
        self.way.call(self.records.conflicts(filter, limit)).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.way.call(self.records.open_conflicts()).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.way.call(self.records.forget_conflicts(before, limit)).await
    }
}

crate::forward_absence!(WeatheredRecords, records);
crate::forward_idle_records!(WeatheredRecords, records);
crate::forward_erasures!(WeatheredRecords, records);

#[async_trait]
impl WatchList for WeatheredRecords {
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault> {
        self.way.call(self.records.watch(watched, keep)).await
    }

    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault> {
        self.way.call(self.records.watch_outbox(keep)).await
    }

    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault> {
        self.way.call(self.records.watched(target, after, limit)).await
    }

    async fn unwatch(&self) -> Result<u64, Fault> {
        self.way.call(self.records.unwatch()).await
    }
}
