//! The system of record in memory: rows, records, outbox and conflicts behind one lock, which is the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    ConflictFilter, ConflictLog, ConflictPage, Fault, FaultClass, Installation, Installed, Outbox, PendingWrite,
};
use chunk_sync_model::{State, Target, Time};
use tokio::sync::Mutex as TurnMutex;
use uuid::Uuid;

use super::absence::Notes;
use super::lease::Table;
use super::tables::Tables;
use super::upkeep::Kept;
use super::waiting::WaitingTable;
use super::{MemoryBus, MemoryLease};

/// The system of record in memory. Its clones hold the same rows.
#[derive(Clone, Default)]
pub struct MemoryRecords {
    pub(super) tables: Arc<Mutex<Tables>>,
    /// Held by the open merge: one runs at a time.
    pub(super) merging: Arc<TurnMutex<()>>,
    pub(super) kept: Arc<Mutex<Kept>>,
    /// The bus whose entries a merge finishes.
    pub(super) bus: Option<MemoryBus>,
    pub(super) lease: Arc<Table>,
    pub(super) waiting: WaitingTable,
    /// How long a merge takes between its fence and its commit.
    pub(super) takes: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
    pub(super) trigger: Option<Trigger>,
    /// A flaw: merges write into any table that bears the name.
    pub(super) careless: bool,
    pub(super) reads: Arc<Mutex<Reads>>,
    pub(super) refused: Arc<Mutex<BTreeSet<Uuid>>>,
}

/// How much was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads {
    /// The number of calls that read the outbox.
    pub outbox_calls: usize,
    /// The number of entries that they returned.
    pub outbox_entries: usize,
    /// The number of rows that were asked for.
    pub rows: usize,
}

/// What a row becomes when it is written.
pub(crate) type Trigger = Arc<dyn Fn(&State) -> State + Send + Sync>;

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

    /// The table refuses the rows of these chunks, as a constraint does, and no others any more.
    pub fn refuse(&self, chunks: impl IntoIterator<Item = Uuid>) {
        *self.refused.lock().unwrap() = chunks.into_iter().collect();
    }

    /// How much was read so far.
    #[must_use]
    pub fn reads(&self) -> Reads {
        *self.reads.lock().unwrap()
    }

    pub(super) fn time(&self) -> Time {
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
}

#[async_trait]
impl Outbox for MemoryRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        pending_writes.iter().for_each(|pending_write| tables.enqueue(*pending_write));
        Ok(())
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        let pending_writes = self.tables.lock().unwrap().pending_writes(target, limit);
        let mut reads = self.reads.lock().unwrap();
        reads.outbox_calls += 1;
        reads.outbox_entries += pending_writes.len();
        Ok(pending_writes)
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
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        let tables = self.tables.lock().unwrap();
        let entries = tables.conflicts.iter().rev().filter(|entry| filter.fits(entry));
        ConflictPage::fill(limit, entries.map(|entry| Ok((entry.clone(), entry.noted.conflict.to_json().len()))))
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        Ok(self.tables.lock().unwrap().conflicts.iter().filter(|entry| entry.noted.is_open()).count() as u64)
    }

    async fn conflict_bytes(&self, _: u64) -> Result<u64, Fault> {
        let tables = self.tables.lock().unwrap();
        Ok(tables.conflicts.iter().map(|entry| entry.noted.conflict.to_json().len() as u64).sum())
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
