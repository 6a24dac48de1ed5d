//! The system of record in memory: rows, records, outbox and conflicts behind one lock, which is the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Altered, Commit, Committed, ConflictFilter, ConflictLog, ConflictRecord, Counts, CurrentState, EntryId, Fault,
    FaultClass, Fence, Installation, Installed, MergeScope, MergeTransaction, NewConflict, Outbox, PendingWrite,
    Position, ResolvedPart, Row, RowsWritten, Suspicion, SystemOfRecord,
};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard, OwnedRwLockReadGuard};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::absence::Notes;
use super::lease::Table;
use super::store::above;
use super::upkeep::Kept;
use super::waiting::WaitingTable;
use super::{MemoryBus, MemoryLease};

/// The system of record in memory. Its clones hold the same rows.
#[derive(Clone, Default)]
pub struct MemoryRecords {
    tables: Arc<Mutex<Tables>>,
    /// Held by the open merge: one runs at a time.
    merging: Arc<TurnMutex<()>>,
    pub(super) kept: Arc<Mutex<Kept>>,
    /// The bus whose entries a merge finishes.
    pub(super) bus: Option<MemoryBus>,
    pub(super) lease: Arc<Table>,
    pub(super) waiting: WaitingTable,
    /// How long a merge takes between its fence and its commit.
    takes: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
    trigger: Option<Trigger>,
}

/// What a row becomes when it is written.
pub(crate) type Trigger = Arc<dyn Fn(&State) -> State + Send + Sync>;

#[derive(Clone, Default)]
struct Tables {
    rows: BTreeMap<Uuid, Arc<State>>,
    /// Each with the last known hash of its row.
    records: BTreeMap<Uuid, (Record, Option<Hash>)>,
    /// The outbox: the version to write, and the number of the entry.
    pending_writes: BTreeMap<(Target, Uuid), (u64, SyncVersion)>,
    /// How many outbox entries there have been.
    debts_ever: u64,
    /// The conflicts, the oldest first.
    conflicts: Vec<ConflictRecord>,
    /// How many conflicts there have been.
    conflicts_ever: u64,
    installed: Option<Installed>,
    notes: Notes,
    /// Rows that the service cannot see.
    hidden: BTreeSet<Uuid>,
}

impl Tables {
    fn check(&self, fence: &Fence) -> Result<(), Fault> {
        fence.check_stores(self.installed.as_ref().map(|installed| installed.version), "memory: merge")
    }

    fn held(&self, id: Uuid) -> CurrentState {
        let state = self.visible(id);
        let (record, row) = self.records.get(&id).cloned().map_or((None, None), |(record, row)| (Some(record), row));
        CurrentState { record, state, row, absence: self.notes.note(id) }
    }

    /// The row, unless something hides it.
    fn visible(&self, id: Uuid) -> Option<Arc<State>> {
        self.rows.get(&id).filter(|_| !self.hidden.contains(&id)).cloned()
    }

    fn set_row(&mut self, id: Uuid, state: Option<Arc<State>>) {
        match state {
            Some(state) => self.rows.insert(id, state),
            None => self.rows.remove(&id),
        };
    }

    fn store(&mut self, commit: Commit) {
        let (id, version) = (commit.id, commit.record.version);
        self.notes.commit(&commit, Position(0));
        if commit.row_changed {
            self.set_row(id, commit.state);
        }
        self.records.insert(id, (commit.record, commit.row));
        for target in commit.outbox {
            self.enqueue(PendingWrite { id, target, version });
        }
        commit.decided.iter().for_each(|decided| self.close(id, decided));
        commit.conflicts.into_iter().for_each(|met| self.enter(id, met));
    }

    fn close(&mut self, chunk: Uuid, decided: &ResolvedPart) {
        let of = |entry: &&mut ConflictRecord| entry.chunk == chunk && entry.met.conflict.part == decided.part;
        for entry in self.conflicts.iter_mut().filter(of).filter(|entry| entry.met.is_open()) {
            entry.met.closed = Some(decided.closed);
        }
    }

    fn enter(&mut self, chunk: Uuid, met: NewConflict) {
        self.conflicts_ever += 1;
        self.conflicts.push(ConflictRecord { id: self.conflicts_ever, chunk, met });
    }

    fn forget_conflicts(&mut self, before: Time, limit: usize) -> usize {
        let old = |entry: &&ConflictRecord| entry.met.settled_at().is_some_and(|at| at < before);
        let mut old: Vec<_> =
            self.conflicts.iter().filter(old).map(|entry| (entry.met.settled_at(), entry.id)).collect();
        old.sort_unstable();
        old.truncate(limit);
        self.conflicts.retain(|entry| !old.iter().any(|(_, id)| *id == entry.id));
        old.len()
    }

    fn enqueue(&mut self, pending_write: PendingWrite) {
        self.debts_ever += 1;
        let (_, outbox) = self
            .pending_writes
            .entry((pending_write.target, pending_write.id))
            .or_insert((self.debts_ever, pending_write.version));
        *outbox = pending_write.version.max(*outbox);
    }

    fn drained(&mut self, pending_write: PendingWrite) {
        let key = (pending_write.target, pending_write.id);
        if self.pending_writes.get(&key).is_some_and(|(_, outbox)| *outbox <= pending_write.version) {
            self.pending_writes.remove(&key);
        }
    }

    fn pending_writes(&self, target: Target, limit: usize) -> Vec<PendingWrite> {
        let mut pending_writes: Vec<_> = self.pending_writes.iter().filter(|((of, _), _)| *of == target).collect();
        pending_writes.sort_by_key(|(_, (turn, _))| *turn);
        pending_writes
            .into_iter()
            .take(limit)
            .map(|((_, id), (_, version))| PendingWrite { id: *id, target, version: *version })
            .collect()
    }

    fn row(&self, id: Uuid) -> Option<Row> {
        let (kept, state) = (self.records.get(&id), self.visible(id));
        let record = kept.map(|(record, _)| record);
        (record.is_some() || state.is_some()).then(|| Row {
            id,
            version: record.map(|record| record.version).unwrap_or_default(),
            lives: record.map(Record::lives),
            seen: kept.and_then(|(_, seen)| *seen),
            state,
        })
    }
}

impl MemoryRecords {
    /// An empty system of record in the same database as the bus: a merge finishes the entries that it names.
    #[must_use]
    pub fn beside(bus: &MemoryBus) -> Self {
        Self { bus: Some(bus.clone()), ..Self::default() }
    }

    /// The same rows, whose merges take the time that `takes` returns.
    #[must_use]
    pub fn taking(self, takes: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { takes: Some(Arc::new(takes)), ..self }
    }

    /// The same rows, with a trigger on the writes of merges. It must not change a row that it returned.
    #[must_use]
    pub(crate) fn triggering(self, trigger: Trigger) -> Self {
        Self { trigger: Some(trigger), ..self }
    }

    pub(super) fn forget_conflicts_of(&self, id: Uuid) -> u64 {
        let mut tables = self.tables.lock().unwrap();
        let there = tables.conflicts.len();
        tables.conflicts.retain(|entry| entry.chunk != id);
        (there - tables.conflicts.len()) as u64
    }

    fn time(&self) -> Time {
        self.bus.as_ref().map_or_else(|| jiff::Timestamp::now().into(), MemoryBus::time)
    }

    /// The lease beside the rows, as the process of that name sees it.
    #[must_use]
    pub fn lease(&self, holder: &str) -> MemoryLease {
        MemoryLease::new(Arc::clone(&self.lease), holder)
    }

    /// Writes a row without its record, as a foreign client would; returns whether there was one.
    pub fn write_row(&self, id: Uuid, state: Option<Arc<State>>) -> bool {
        let mut tables = self.tables.lock().unwrap();
        let there = tables.rows.contains_key(&id);
        tables.set_row(id, state);
        there
    }

    /// Runs `work` on the notes and the ids of the living chunks.
    pub(super) fn with_notes<T>(&self, work: impl FnOnce(&mut Notes, &BTreeSet<Uuid>) -> T) -> T {
        let mut tables = self.tables.lock().unwrap();
        let living = tables.records.iter().filter(|(_, (record, _))| record.lives()).map(|(id, _)| *id).collect();
        work(&mut tables.notes, &living)
    }

    /// Hides these rows from the service, as row level security would without `row_security = off`; all others show
    /// again.
    pub fn hide(&self, ids: impl IntoIterator<Item = Uuid>) {
        self.tables.lock().unwrap().hidden = ids.into_iter().collect();
    }

    /// From now on every deletion of a row is captured.
    pub fn capture_everything(&self) {
        self.with_notes(|notes, _| notes.captured = true);
    }

    /// Puts another table in place of the one on record.
    pub fn replace_table(&self, text: &str) {
        self.with_notes(|notes, _| notes.table = Some(Suspicion { text: text.to_owned() }));
    }

    /// Adds a partition that is not on record.
    pub fn attach_partition(&self) {
        self.with_notes(|notes, _| notes.new_partitions = true);
    }

    /// A copy of everything as it is now: the database after a restore to this moment.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let tables = self.tables.lock().unwrap().clone();
        Self { tables: Arc::new(Mutex::new(tables)), ..self.clone() }
    }

    /// Loses the record of a chunk and keeps its row, as after a restore of rows without their records; returns whether
    /// there was one.
    pub fn lose_record(&self, id: Uuid) -> bool {
        self.tables.lock().unwrap().records.remove(&id).is_some()
    }
}

/// How long a merge may stay open between two statements, as in PostgreSQL: then it is rolled back.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(1);

/// What an open merge holds.
struct Locks {
    _merging: OwnedMutexGuard<()>,
    _lease: Option<OwnedRwLockReadGuard<()>>,
}

/// An open merge. It releases its locks when it ends, is dropped, or stays idle for too long.
struct MemoryMerge {
    records: MemoryRecords,
    ids: Vec<Uuid>,
    fence: Fence,
    finished: Vec<EntryId>,
    current: Vec<CurrentState>,
    /// The rows that it read.
    rows: Vec<Option<Arc<State>>>,
    /// The rows that it wrote, and the trigger altered.
    altered: BTreeMap<Uuid, Arc<State>>,
    locks: Arc<Mutex<Option<Locks>>>,
    /// Releases the locks of an idle transaction.
    idle: AbortHandle,
}

impl MemoryMerge {
    /// Whether another program has written one of the rows since they were read. On a server it would wait for the
    /// lock of a row that exists; here the merge begins again.
    fn is_overtaken(&self, tables: &Tables) -> bool {
        self.ids.iter().zip(&self.rows).any(|(id, row)| tables.visible(*id) != *row)
    }
}

impl Drop for MemoryMerge {
    fn drop(&mut self) {
        self.idle.abort();
        drop(self.locks.lock().unwrap().take());
    }
}

#[async_trait]
impl MergeTransaction for MemoryMerge {
    fn current(&mut self) -> Vec<CurrentState> {
        std::mem::take(&mut self.current)
    }

    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault> {
        let Some(trigger) = &self.records.trigger else {
            return Ok(RowsWritten::Stored(Vec::new()));
        };
        for commit in commits.iter().filter(|commit| commit.row_changed) {
            let Some(sent) = &commit.state else { continue };
            let state = trigger(sent);
            if state != **sent {
                self.altered.insert(commit.id, Arc::new(state));
            }
        }
        let altered = |(id, state): (&Uuid, &Arc<State>)| Altered { id: *id, state: Arc::clone(state) };
        Ok(RowsWritten::Stored(self.altered.iter().map(altered).collect()))
    }

    async fn commit(self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault> {
        let mut tables = self.records.tables.lock().unwrap();
        let Some(_locks) = self.locks.lock().unwrap().take() else {
            return Err(Fault::new(FaultClass::Timeout, "memory: merge", "the transaction was idle for too long"));
        };
        tables.check(&self.fence)?;
        if self.is_overtaken(&tables) {
            return Ok(Committed::Overtaken);
        }
        let at = self.records.time();
        for mut commit in commits {
            if let Some(stored) = self.altered.get(&commit.id) {
                commit.state = Some(Arc::clone(stored));
            }
            self.records.kept.lock().unwrap().wrote(commit.id, at);
            tables.store(commit);
        }
        if let Some(bus) = &self.records.bus {
            bus.finish(&self.finished);
        }
        Ok(Committed::Durable)
    }
}

#[async_trait]
impl SystemOfRecord for MemoryRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        let lease = match scope.fence.lease {
            Some(token) => Some(self.lease.fence(token).await?),
            None => None,
        };
        let takes = self.takes.as_ref().map(|takes| takes());
        if let Some(time) = takes.filter(|time| !time.is_zero()) {
            tokio::time::sleep(time).await;
        }
        let merging = Arc::clone(&self.merging).lock_owned().await;
        let locks = Arc::new(Mutex::new(Some(Locks { _merging: merging, _lease: lease })));
        let tables = self.tables.lock().unwrap();
        tables.check(scope.fence)?;
        let current: Vec<CurrentState> = scope.ids.iter().map(|id| tables.held(*id)).collect();
        drop(tables);
        let idle = tokio::spawn({
            let locks = Arc::clone(&locks);
            async move {
                tokio::time::sleep(IDLE_IN_TRANSACTION).await;
                drop(locks.lock().unwrap().take());
            }
        });
        Ok(Box::new(MemoryMerge {
            records: self.clone(),
            ids: scope.ids.to_vec(),
            fence: scope.fence.clone(),
            finished: scope.finished.to_vec(),
            rows: current.iter().map(|current| current.state.clone()).collect(),
            altered: BTreeMap::new(),
            current,
            locks,
            idle: idle.abort_handle(),
        }))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(ids.iter().map(|id| tables.held(*id)).collect())
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        let tables = self.tables.lock().unwrap();
        let records = tables.records.range(above(after)).take(limit).map(|(id, _)| *id);
        let rows =
            tables.rows.range(above(after)).map(|(id, _)| *id).filter(|id| !tables.hidden.contains(id)).take(limit);
        let ids: BTreeSet<Uuid> = records.chain(rows).collect();
        Ok(ids.into_iter().take(limit).filter_map(|id| tables.row(id)).collect())
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(ids.iter().map(|id| tables.row(*id)).collect())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.tables.lock().unwrap().rows.len() as u64;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }
}

#[async_trait]
impl Outbox for MemoryRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        pending_writes.iter().for_each(|pending_write| tables.enqueue(*pending_write));
        Ok(())
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        Ok(self.tables.lock().unwrap().pending_writes(target, limit))
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        pending_writes.iter().for_each(|pending_write| tables.drained(*pending_write));
        Ok(())
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        let tables = self.tables.lock().unwrap();
        let count = |target| (target, tables.pending_writes.keys().filter(|(of, _)| *of == target).count() as u64);
        Ok(Target::ALL.map(count).into())
    }
}

#[async_trait]
impl ConflictLog for MemoryRecords {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(tables.conflicts.iter().rev().filter(|entry| filter.fits(entry)).take(limit).cloned().collect())
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        Ok(self.tables.lock().unwrap().conflicts.iter().filter(|entry| entry.met.is_open()).count() as u64)
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        Ok(self.tables.lock().unwrap().forget_conflicts(before, limit) as u64)
    }
}

#[async_trait]
impl Installation for MemoryRecords {
    async fn installed(&self) -> Result<Option<Installed>, Fault> {
        Ok(self.tables.lock().unwrap().installed.clone())
    }

    async fn is_fresh(&self) -> Result<bool, Fault> {
        Ok(self.tables.lock().unwrap().records.is_empty())
    }

    async fn record(&self, before: Option<u64>, new: &Installed) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        if tables.installed.as_ref().map(|installed| installed.version) != before {
            return Err(Fault::new(FaultClass::Busy, "memory: installation", "another set was recorded meanwhile"));
        }
        tables.pending_writes.retain(|(target, _), _| new.stores.0.contains_key(target));
        tables.installed = Some(new.clone());
        Ok(())
    }

    async fn filled(&self, version: u64, store: Target) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        if let Some(installed) = tables.installed.as_mut().filter(|installed| installed.version == version) {
            installed.filling.remove(&store);
        }
        Ok(())
    }
}
