//! The system of record in memory: rows, records, outbox and conflicts behind one lock, which is the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Commit, ConflictFilter, ConflictRecord, Counts, CurrentState, Decide, Fault, FaultClass, Installation,
    Installed, MergeScope, NewConflict, PendingWrite, Records, ResolvedPart, Row, Store, StoredDocument,
    StoredFingerprint, Write,
};
use chunk_sync_model::document::{Document, Fingerprint, row_fingerprint};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use super::lease::Table;
use super::store::above;
use super::{MemoryBus, MemoryLease};

/// The system of record in memory. Its clones hold the same rows.
#[derive(Clone, Default)]
pub struct MemoryRecords {
    tables: Arc<Mutex<Tables>>,
    /// The bus whose entries a merge finishes.
    bus: Option<MemoryBus>,
    lease: Arc<Table>,
    /// How long a merge takes between its fence and its commit.
    takes: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
}

#[derive(Default)]
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
}

impl Tables {
    fn held(&self, id: Uuid) -> CurrentState {
        let state = self.rows.get(&id).cloned();
        let (record, row) = self.records.get(&id).cloned().map_or((None, None), |(record, row)| (Some(record), row));
        CurrentState { record, state, row }
    }

    fn set_row(&mut self, id: Uuid, state: Option<Arc<State>>) {
        match state {
            Some(state) => self.rows.insert(id, state),
            None => self.rows.remove(&id),
        };
    }

    fn store(&mut self, commit: Commit) {
        let (id, version) = (commit.id, commit.record.version);
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
        let (kept, state) = (self.records.get(&id), self.rows.get(&id).cloned());
        let record = kept.map(|(record, _)| record);
        (record.is_some() || state.is_some()).then(|| Row {
            id,
            version: record.map(|record| record.version).unwrap_or_default(),
            lives: record.map(Record::lives),
            seen: kept.and_then(|(_, seen)| *seen),
            state,
        })
    }

    fn looked(&self, id: Uuid) -> Option<StoredDocument> {
        let row = self.row(id)?;
        Some(StoredDocument { id, version: row.version, document: Document::Row(row.state?) })
    }

    /// Applies a write as the other stores do, guarded by the version in the record.
    fn apply(&mut self, write: &Write) -> Applied {
        let mut record = self.held(write.id).record.unwrap_or_default();
        if record.version >= write.version {
            return Applied::Skipped;
        }
        record.version = write.version;
        let row = write.state.as_deref().map(|state| row_fingerprint(state).digest());
        self.set_row(write.id, write.state.clone());
        self.records.insert(write.id, (record, row));
        Applied::Written
    }
}

impl MemoryRecords {
    /// An empty system of record in the same database as the bus: a merge finishes the entries that it names.
    #[must_use]
    pub fn beside(bus: &MemoryBus) -> Self {
        Self { bus: Some(bus.clone()), ..Self::default() }
    }

    /// The same rows, whose fenced merges take the time that `takes` returns.
    #[must_use]
    pub fn taking(self, takes: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { takes: Some(Arc::new(takes)), ..self }
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

    /// Loses the record of a chunk and keeps its row, as after a restore of rows without their records; returns whether
    /// there was one.
    pub fn lose_record(&self, id: Uuid) -> bool {
        self.tables.lock().unwrap().records.remove(&id).is_some()
    }
}

#[async_trait]
impl Store for MemoryRecords {
    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let mut tables = self.tables.lock().unwrap();
        writes.iter().map(|write| tables.apply(write)).collect()
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(ids.iter().map(|id| tables.looked(*id)).collect())
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        let tables = self.tables.lock().unwrap();
        let looked = tables.rows.range(above(after)).take(limit).filter_map(|(id, _)| tables.looked(*id));
        Ok(looked.map(|looked| looked.seen()).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        row_fingerprint(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.tables.lock().unwrap().rows.len() as u64;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault> {
        let _fence = match scope.fence.lease {
            Some(token) => Some(self.lease.fence(token).await?),
            None => None,
        };
        let takes = self.takes.as_ref().filter(|_| scope.fence.lease.is_some()).map(|takes| takes());
        if let Some(time) = takes.filter(|time| !time.is_zero()) {
            tokio::time::sleep(time).await;
        }
        let mut tables = self.tables.lock().unwrap();
        scope.fence.check_stores(tables.installed.as_ref().map(|installed| installed.version), "memory: merge")?;
        let held = scope.ids.iter().map(|id| tables.held(*id)).collect();
        decide(held).into_iter().for_each(|commit| tables.store(commit));
        if let Some(bus) = &self.bus {
            bus.finish(scope.finished);
        }
        Ok(())
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        let tables = self.tables.lock().unwrap();
        let records = tables.records.range(above(after)).take(limit).map(|(id, _)| *id);
        let rows = tables.rows.range(above(after)).take(limit).map(|(id, _)| *id);
        let ids: BTreeSet<Uuid> = records.chain(rows).collect();
        Ok(ids.into_iter().take(limit).filter_map(|id| tables.row(id)).collect())
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(ids.iter().map(|id| tables.row(*id)).collect())
    }

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
