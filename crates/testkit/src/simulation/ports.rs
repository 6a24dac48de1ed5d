//! The ports as a process sees them through injected faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Commit, Committed, ConflictFilter, ConflictLog, ConflictPage, Counts, CurrentState, Fault, Lease, LeaseState,
    MergeScope, MergeTransaction, Outbox, PendingWrite, Records, Row, RowPage, RowsWritten, SystemOfRecord, WatchList,
    Watched,
};
use chunk_sync_model::{Target, Time};
use uuid::Uuid;

use super::oracle::Oracle;
use super::way::Way;
use crate::memory::MemoryLease;

mod absence;
pub(super) mod bus;
pub(super) mod store;

use store::Poisoned;

pub(super) struct FaultyLease {
    pub(super) lease: Arc<dyn Lease>,
    pub(super) way: Way,
}

#[async_trait]
impl Lease for FaultyLease {
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

pub(super) struct FaultyRecords {
    pub(super) records: Arc<dyn Records>,
    /// The lease itself, without faults: which process really holds it.
    pub(super) lease: MemoryLease,
    pub(super) way: Way,
    pub(super) oracle: Arc<Oracle>,
    pub(super) poison: Option<Poisoned>,
}

/// An open merge through faults. The oracle sees what it reads and what it commits.
struct FaultyMerge<'a> {
    through: &'a FaultyRecords,
    merge: Box<dyn MergeTransaction + 'a>,
    current: Vec<CurrentState>,
    token: Option<Uuid>,
}

#[async_trait]
impl MergeTransaction for FaultyMerge<'_> {
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

/// Rows that are read at once, as if more of them had too many bytes.
const READ_AT_ONCE: usize = 3;

fn first(ids: &[Uuid]) -> &[Uuid] {
    &ids[..ids.len().min(READ_AT_ONCE)]
}

#[async_trait]
impl SystemOfRecord for FaultyRecords {
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
            Ok(FaultyMerge { through: self, merge, current, token: scope.fence.lease })
        };
        Ok(Box::new(self.way.call(begin).await?))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        self.way.call(self.records.current(first(ids))).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        self.way.call(self.records.rows(after, limit.min(READ_AT_ONCE))).await
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        self.way.call(self.records.rows_of(first(ids))).await
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.way.call(self.records.counts()).await
    }
}

#[async_trait]
impl Outbox for FaultyRecords {
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
impl ConflictLog for FaultyRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        self.way.call(self.records.conflicts(filter, limit)).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.way.call(self.records.open_conflicts()).await
    }

    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault> {
        self.way.call(self.records.conflict_bytes(enough)).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.way.call(self.records.forget_conflicts(before, limit)).await
    }
}

crate::forward_idle_records!(FaultyRecords, records);
crate::forward_erasures!(FaultyRecords, records);

#[async_trait]
impl WatchList for FaultyRecords {
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
