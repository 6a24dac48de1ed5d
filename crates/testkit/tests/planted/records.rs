//! A system of record that breaks a promise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceNote, Commit, Committed, ConflictFilter, ConflictLog, ConflictPage, Counts, CurrentState, Fault, FaultClass,
    Fence, MergeScope, MergeTransaction, Outbox, PendingWrite, Records, Row, RowPage, RowsWritten, SystemOfRecord,
    WatchList, Watched,
};
use chunk_sync_model::{SyncVersion, Target, Time};
use uuid::Uuid;

use super::Every;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flaw {
    RecordsNothing,
    ForgetsDebts,
    PaysWhateverVersion,
    RefusesDebts,
    IgnoresTheLease,
    ForgetsTheWatched,
    RecordsWhatItSent,
    /// Expires the newest setting of a part, too.
    ForgetsNewestSettings,
    /// A living chunk without a row counts as deleted.
    TakesAbsenceForDeletion,
    /// A pending write of a chunk without a row deletes it.
    DeletesWhatItCannotRead,
}

pub(super) struct Flawed(Arc<dyn Records>, Flaw, Every);

impl Flawed {
    pub(super) fn new(records: Arc<dyn Records>, flaw: Flaw) -> Self {
        Self(records, flaw, Every::new(10))
    }
}

/// An open merge whose commits the flaw changes.
struct FlawedMerge<'a> {
    merge: Box<dyn MergeTransaction + 'a>,
    flaw: Flaw,
    skips: bool,
}

#[async_trait]
impl MergeTransaction for FlawedMerge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        let mut current = self.merge.current();
        if self.flaw == Flaw::TakesAbsenceForDeletion {
            current.iter_mut().filter(|current| current.state.is_none()).for_each(|current| {
                current.absence = Some(AbsenceNote { newest_change: None, approved: true });
            });
        }
        current
    }

    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
        match self.merge.write(commits).await {
            Ok(_) if self.flaw == Flaw::RecordsWhatItSent => Ok(RowsWritten::Stored(Vec::new())),
            written => written,
        }
    }

    async fn commit(self: Box<Self>, mut commits: Vec<Commit>) -> Result<Committed, Fault> {
        if self.skips {
            commits.clear();
        }
        if matches!(self.flaw, Flaw::ForgetsDebts | Flaw::RefusesDebts) {
            commits.iter_mut().for_each(|commit| commit.outbox.clear());
        }
        if self.flaw == Flaw::ForgetsNewestSettings {
            commits.iter_mut().for_each(forget_newest);
        }
        self.merge.commit(commits).await
    }
}

#[async_trait]
impl SystemOfRecord for Flawed {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        let none = Fence::default();
        let fence = if self.1 == Flaw::IgnoresTheLease { &none } else { scope.fence };
        let merge = self.0.begin(MergeScope { fence, ..scope }).await?;
        let skips = self.1 == Flaw::RecordsNothing && self.2.now();
        Ok(Box::new(FlawedMerge { merge, flaw: self.1, skips }))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        self.0.current(ids).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        self.0.rows(after, limit).await
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let mut rows = self.0.rows_of(ids).await?;
        if self.1 == Flaw::DeletesWhatItCannotRead {
            let absent = rows.iter_mut().flatten().filter(|row| row.state.is_none() && row.lives.is_some());
            absent.for_each(|row| row.lives = Some(false));
        }
        Ok(rows)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.0.counts().await
    }
}

#[async_trait]
impl Outbox for Flawed {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        match self.1 {
            Flaw::ForgetsDebts => Ok(()),
            Flaw::RefusesDebts => Err(Fault::new(FaultClass::Unavailable, "planted", "the outbox takes no entries")),
            _ => self.0.enqueue(pending_writes).await,
        }
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        self.0.pending_writes(target, limit).await
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut pending_writes = pending_writes.to_vec();
        if self.1 == Flaw::PaysWhateverVersion {
            pending_writes.iter_mut().for_each(|pending_write| pending_write.version = SyncVersion::new((1 << 53) - 1));
        }
        self.0.drained(&pending_writes).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        self.0.outbox_counts().await
    }
}

#[async_trait]
impl ConflictLog for Flawed {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        self.0.conflicts(filter, limit).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.0.open_conflicts().await
    }

    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault> {
        self.0.conflict_bytes(enough).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.0.forget_conflicts(before, limit).await
    }
}

chunk_sync_testkit::forward_absence!(Flawed, 0);
chunk_sync_testkit::forward_idle_records!(Flawed, 0);
chunk_sync_testkit::forward_erasures!(Flawed, 0);

#[async_trait]
impl WatchList for Flawed {
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault> {
        self.0.watch(watched, keep).await
    }

    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault> {
        self.0.watch_outbox(keep).await
    }

    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault> {
        match self.1 {
            Flaw::ForgetsTheWatched => Ok(Vec::new()),
            _ => self.0.watched(target, after, limit).await,
        }
    }

    async fn unwatch(&self) -> Result<u64, Fault> {
        self.0.unwatch().await
    }
}

/// Drops each writer's newest setting of a part where there are earlier ones.
fn forget_newest(commit: &mut Commit) {
    let settings = commit.record.writers.values_mut().flat_map(|history| history.parts.values_mut());
    settings.filter(|settings| settings.len() > 1).for_each(|settings| drop(settings.pop()));
}
