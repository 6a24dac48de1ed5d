//! Idle records, erasures and the watch list in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Erasures, Fault, IdlePage, IdleRecords, Outbox, WatchList, Watched};
use chunk_sync_model::{Target, Time};
use tokio::time::Instant;
use uuid::Uuid;

use super::MemoryRecords;
use super::store::above;

#[derive(Default)]
pub(super) struct Kept {
    /// When the record of a chunk was written last; a record that is not here was never written.
    pub(super) written: BTreeMap<Uuid, Time>,
    swept: BTreeSet<Uuid>,
    erasures: BTreeSet<Uuid>,
    watched: BTreeMap<Watched, Instant>,
}

impl Kept {
    pub(super) fn wrote(&mut self, id: Uuid, at: Time) {
        self.written.insert(id, at);
        self.swept.remove(&id);
    }
}

#[async_trait]
impl IdleRecords for MemoryRecords {
    async fn idle(&self, after: Option<Uuid>, before: Time, limit: usize) -> Result<IdlePage, Fault> {
        let kept = self.kept.lock().unwrap();
        let page: Vec<(&Uuid, &Time)> = kept.written.range(above(after)).take(limit).collect();
        let last = page.last().filter(|_| page.len() == limit).map(|(id, _)| **id);
        let idle = page.into_iter().filter(|(id, at)| **at < before && !kept.swept.contains(*id));
        Ok(IdlePage { ids: idle.map(|(id, _)| *id).collect(), last })
    }

    async fn swept(&self, ids: &[Uuid], before: Time) -> Result<(), Fault> {
        let mut kept = self.kept.lock().unwrap();
        let idle: Vec<Uuid> =
            ids.iter().copied().filter(|id| kept.written.get(id).is_some_and(|at| *at < before)).collect();
        kept.swept.extend(idle);
        Ok(())
    }
}

#[async_trait]
impl Erasures for MemoryRecords {
    async fn request_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.kept.lock().unwrap().erasures.extend(ids);
        Ok(())
    }

    async fn requested_erasures(&self, limit: usize) -> Result<Vec<Uuid>, Fault> {
        Ok(self.kept.lock().unwrap().erasures.iter().copied().take(limit).collect())
    }

    async fn withdraw_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.kept.lock().unwrap().erasures.retain(|id| !ids.contains(id));
        Ok(())
    }

    async fn erase_conflicts(&self, id: Uuid) -> Result<u64, Fault> {
        Ok(self.forget_conflicts_of(id))
    }
}

#[async_trait]
impl WatchList for MemoryRecords {
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault> {
        let (until, mut kept) = (Instant::now() + keep, self.kept.lock().unwrap());
        for watched in watched {
            let listed = kept.watched.entry(*watched).or_insert(until);
            *listed = until.max(*listed);
        }
        Ok(())
    }

    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault> {
        for target in Target::ALL {
            let pending = self.pending_writes(target, usize::MAX).await?;
            let watched: Vec<Watched> = pending.iter().map(|pending| Watched { id: pending.id, target }).collect();
            self.watch(&watched, keep).await?;
        }
        Ok(())
    }

    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let kept = self.kept.lock().unwrap();
        let of_target = kept.watched.keys().filter(|watched| watched.target == target).map(|watched| watched.id);
        Ok(of_target.filter(|id| after.is_none_or(|after| *id > after)).take(limit).collect())
    }

    async fn unwatch(&self) -> Result<u64, Fault> {
        let (now, mut kept) = (Instant::now(), self.kept.lock().unwrap());
        let there = kept.watched.len();
        kept.watched.retain(|_, until| *until >= now);
        Ok((there - kept.watched.len()) as u64)
    }
}
