//! Flawed systems of record: a correct one in memory, and a flaw in front of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsentRow, Approval, Commit, Committed, ConflictFilter, ConflictLog,
    ConflictPage, Counts, CurrentState, EntryId, Fault, Fence, MergeScope, MergeTransaction, NoteChange, Outbox,
    PendingWrite, Records, Resolution, ResolvedPart, Row, RowPage, RowsWritten, SystemOfRecord, Verdict,
};
use chunk_sync_model::{Part, State, SyncVersion, Target, Time, Writer};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::memory::MemoryRecords;
use chunk_sync_testkit::merging::{Merging as _, commit};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use super::{FLAW, Flaw};

/// Long enough for another call to intervene.
const WHILE: Duration = Duration::from_millis(2);

#[derive(Clone)]
pub(super) struct FlawedRecords {
    flaw: Flaw,
    good: MemoryRecords,
    /// Held by the open merge of a flaw that keeps locks.
    turn: Arc<Mutex<()>>,
}

impl FlawedRecords {
    fn tampered(&self, mut commits: Vec<Commit>, held: &[CurrentState]) -> Vec<Commit> {
        if self.flaw == Flaw::TakesAHundred {
            commits.truncate(100);
        }
        for (commit, held) in commits.iter_mut().zip(held) {
            match self.flaw {
                Flaw::ForgetsTheDigest => commit.row = None,
                Flaw::ForgetsDeletions if matches!(commit.absence, NoteChange::Deleted(_)) => {
                    commit.absence = NoteChange::Remove;
                }
                Flaw::KeepsNotes if commit.absence == NoteChange::Remove => commit.absence = NoteChange::Keep,
                Flaw::AlwaysWritesTheRow => commit.row_changed = true,
                Flaw::OwesNothingWithTheRow => commit.outbox.clear(),
                Flaw::RoundsTimesOfConflicts => commit.conflicts.iter_mut().for_each(|new| new.at = rounded(new.at)),
                Flaw::DecidesOnAllParts => commit.decided = commit.decided.iter().flat_map(everything).collect(),
                Flaw::ClosesWhatIsMetNext => {
                    let decided = commit.decided.first().map(|decided| decided.closed);
                    commit.conflicts.iter_mut().for_each(|noted| noted.closed = noted.closed.or(decided));
                }
                Flaw::DeletesForGood if held.record.is_some() && held.state.is_none() => commit.state = None,
                Flaw::EmptySummaryIsNone => commit.state = commit.state.as_deref().map(without_empty_summary),
                _ => {}
            }
        }
        commits
    }

    fn listed(&self, rows: impl Iterator<Item = Row>) -> Vec<Row> {
        rows.filter(|row| self.flaw != Flaw::ListsNoTombstones || row.lives != Some(false)).collect()
    }
}

fn without_empty_summary(state: &State) -> Arc<State> {
    let mut state = State::clone(state);
    state.chunk.summary = state.chunk.summary.filter(|summary| !summary.is_empty());
    Arc::new(state)
}

fn rounded(time: Time) -> Time {
    Time::from_micros(time.micros() / 1_000 * 1_000)
}

/// The decision, applied to more parts than its own.
fn everything(decided: &ResolvedPart) -> [ResolvedPart; 2] {
    [decided.clone(), ResolvedPart { part: Part::Summary, ..decided.clone() }]
}

/// Only the conflicts of the commits, with the record that is held.
fn with_what_was(commits: &[Commit], held: &[CurrentState]) -> Vec<Commit> {
    let one = |(commit, held): (&Commit, &CurrentState)| Commit {
        record: held.record.clone().unwrap_or_default(),
        row_changed: false,
        row: held.row,
        ..commit.clone()
    };
    commits.iter().zip(held).map(one).collect()
}

/// An open merge with a flaw in front of it.
struct FlawedMerge<'a> {
    records: &'a FlawedRecords,
    /// `None` if the flaw reads and writes in two transactions.
    merge: Option<Box<dyn MergeTransaction + 'a>>,
    ids: Vec<Uuid>,
    fence: Fence,
    finished: Vec<EntryId>,
    current: Vec<CurrentState>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for FlawedMerge<'_> {
    fn drop(&mut self) {
        std::mem::forget(self.turn.take());
    }
}

#[async_trait]
impl MergeTransaction for FlawedMerge<'_> {
    fn current(&mut self) -> Vec<CurrentState> {
        self.current.clone()
    }

    async fn write(&mut self, _: &[Commit]) -> Result<RowsWritten, Fault> {
        Ok(RowsWritten::Stored(Vec::new()))
    }

    async fn commit(mut self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        drop(self.turn.take());
        if let Some(merge) = self.merge.take() {
            let commits = self.records.tampered(commits, &self.current);
            return merge.commit(commits).await;
        }
        let (records, ids, fence) = (self.records, std::mem::take(&mut self.ids), self.fence.clone());
        let finished = std::mem::take(&mut self.finished);
        drop(self);
        records.write_later(MergeScope { ids: &ids, fence: &fence, finished: &finished }, commits).await
    }
}

impl FlawedRecords {
    /// Writes, in later transactions, what was decided on the reads of one that has ended.
    async fn write_later(&self, scope: MergeScope<'_>, mut commits: Vec<Commit>) -> Result<Committed, Fault> {
        if self.flaw == Flaw::MergesOneByOne {
            for commit in commits {
                self.good.merge_in(MergeScope { ids: &[commit.id], ..scope }, &|_| vec![commit.clone()]).await?;
                tokio::time::sleep(WHILE).await;
            }
            return Ok(Committed::Durable);
        }
        if self.flaw == Flaw::RecordsConflictsBeforehand {
            let conflicts = |commit: &Commit| Commit { decided: Vec::new(), ..commit.clone() };
            let early: Vec<Commit> = commits.iter().map(conflicts).collect();
            self.good.merge_in(scope, &|current| with_what_was(&early, &current)).await?;
            commits.iter_mut().for_each(|commit| commit.conflicts.clear());
        }
        tokio::time::sleep(WHILE).await;
        self.good.merge_in(scope, &|_| commits.clone()).await?;
        Ok(Committed::Durable)
    }
}

#[async_trait]
impl SystemOfRecord for FlawedRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        self.good.prepare().await
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        let mut ids = scope.ids.to_vec();
        if self.flaw == Flaw::AnswersSorted {
            ids.sort_unstable();
        }
        let turn = match self.flaw {
            Flaw::KeepsLocksWhenDropped => Some(Arc::clone(&self.turn).lock_owned().await),
            _ => None,
        };
        let mut merge = self.good.begin(MergeScope { ids: &ids, ..scope }).await?;
        let current = merge.current();
        let apart = [Flaw::DecidesOnWhatWas, Flaw::MergesOneByOne, Flaw::RecordsConflictsBeforehand];
        let merge = (!apart.contains(&self.flaw)).then_some(merge);
        let (fence, finished) = (scope.fence.clone(), scope.finished.to_vec());
        Ok(Box::new(FlawedMerge { records: self, merge, ids, fence, finished, current, turn }))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        self.good.current(ids).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        let after = match self.flaw {
            Flaw::PageBeginsAtAfter => after.and_then(|id| id.as_u128().checked_sub(1)).map(Uuid::from_u128),
            _ => after,
        };
        let RowPage { rows, is_last } = self.good.rows(after, limit).await?;
        Ok(RowPage { rows: self.listed(rows.into_iter()), is_last })
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        if self.flaw == Flaw::NoIdsMeanAll && ids.is_empty() {
            return Ok(self.good.rows(None, usize::MAX).await?.rows.into_iter().map(Some).collect());
        }
        let mut rows = self.good.rows_of(ids).await?;
        while self.flaw == Flaw::ReadsAsManyAsAsked && rows.len() < ids.len() {
            rows.extend(self.good.rows_of(&ids[rows.len()..]).await?);
        }
        if self.flaw == Flaw::ReadsTwice {
            tokio::time::sleep(WHILE).await;
            for (row, later) in rows.iter_mut().zip(self.good.rows_of(ids).await?) {
                if let (Some(row), Some(later)) = (row, later) {
                    row.state = later.state;
                }
            }
        }
        Ok(rows)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.good.counts().await
    }
}

#[async_trait]
impl Outbox for FlawedRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        if self.flaw == Flaw::LastDebtWins {
            let drained: Vec<PendingWrite> = pending_writes
                .iter()
                .map(|pending_write| PendingWrite { version: SyncVersion::MAX, ..*pending_write })
                .collect();
            self.good.drained(&drained).await?;
        }
        let most = if self.flaw == Flaw::TakesAHundred { 100 } else { usize::MAX };
        self.good.enqueue(&pending_writes[..pending_writes.len().min(most)]).await
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        let mut pending_writes = self.good.pending_writes(target, limit).await?;
        if self.flaw == Flaw::DebtsById {
            pending_writes.sort_by_key(|pending_write| pending_write.id);
        }
        Ok(pending_writes)
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut pending_writes = pending_writes.to_vec();
        if self.flaw == Flaw::PaysWhateverVersion {
            tokio::task::yield_now().await;
            pending_writes.iter_mut().for_each(|pending_write| pending_write.version = SyncVersion::MAX);
        }
        self.good.drained(&pending_writes).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        self.good.outbox_counts().await
    }
}

#[async_trait]
impl ConflictLog for FlawedRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        let mut filter = filter.clone();
        match self.flaw {
            Flaw::IgnoresWhoMet => filter.writer = None,
            Flaw::PagesBeginBelow => filter.below = filter.below.map(|id| id + 1),
            _ => {}
        }
        let mut page = self.good.conflicts(&filter, limit).await?;
        while self.flaw == Flaw::PagesHaveEveryConflict && page.more {
            let below = page.next();
            let next = self.good.conflicts(&ConflictFilter { below, ..filter.clone() }, limit).await?;
            page.entries.extend(next.entries);
            page.more = next.more;
        }
        Ok(page)
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.good.open_conflicts().await
    }

    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault> {
        self.good.conflict_bytes(enough).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        if self.flaw == Flaw::ForgetsOpenConflicts {
            for entry in
                self.good.conflicts(&ConflictFilter { open: true, ..ConflictFilter::default() }, limit).await?.entries
            {
                let closed = Resolution { at: Time::from_micros(0), by: Writer::Operator };
                let decided = ResolvedPart { part: entry.noted.conflict.part.clone(), closed };
                let decide = |held: Vec<CurrentState>| {
                    let record = held[0].record.clone().unwrap_or_default();
                    let (row, decided) = (held[0].row, vec![decided.clone()]);
                    vec![Commit { row_changed: false, row, decided, ..commit(entry.chunk, record, None) }]
                };
                self.good.merge(&[entry.chunk], &decide).await?;
            }
        }
        self.good.forget_conflicts(before, limit).await
    }
}

#[async_trait]
impl Fixture for FlawedRecords {
    type Port = dyn Records;

    async fn fresh() -> Self {
        Self { flaw: FLAW.get(), good: MemoryRecords::default(), turn: Arc::default() }
    }

    fn port(&self) -> Arc<dyn Records> {
        Arc::new(self.clone())
    }

    async fn reopen(&mut self) {
        if self.flaw == Flaw::ForgetsOnReopen {
            self.good = MemoryRecords::default();
        }
    }
}

#[async_trait]
impl AbsenceLog for FlawedRecords {
    fn is_captured(&self) -> bool {
        self.good.is_captured()
    }

    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault> {
        if self.flaw == Flaw::LastCauseWins {
            self.good.forget_absent(ids).await?;
        }
        self.good.note_absent(ids, cause, at).await
    }

    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault> {
        self.good.absent_rows(after, limit).await
    }

    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.good.confirm_absent(ids).await
    }

    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault> {
        match self.flaw {
            Flaw::KeepsConfirmations => Ok(()),
            _ => self.good.absent_rows_were_seen(ids, at).await,
        }
    }

    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.good.forget_absent(ids).await
    }

    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault> {
        let forced = approval.forced || self.flaw == Flaw::ApprovesAboveTheLimit;
        self.good.approve(Approval { forced, ..approval }).await
    }

    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault> {
        self.good.absence_counts(at).await
    }
}

chunk_sync_testkit::forward_idle_records!(FlawedRecords, good);
chunk_sync_testkit::forward_erasures!(FlawedRecords, good);
chunk_sync_testkit::forward_watch_list!(FlawedRecords, good);
