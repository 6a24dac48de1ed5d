//! Merges of the system of record in memory, and its reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Altered, Commit, Committed, Counts, CurrentState, EntryId, Fault, FaultClass, Fence, MergeScope, MergeTransaction,
    Row, RowPage, RowsWritten, SystemOfRecord, read_together,
};
use chunk_sync_model::State;
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::records::MemoryRecords;
use super::store::above;
use super::tables::Tables;

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

    /// Whether the rows of the commits can be written. A row that cannot be seen prevents its insertion, as the unique key
    /// of a real table does.
    fn may_write(&self, tables: &Tables, commits: &[Commit]) -> Result<bool, Fault> {
        let mut written = commits.iter().filter(|commit| commit.row_changed).peekable();
        if written.peek().is_some() && !self.records.careless {
            tables.check_table()?;
        }
        Ok(!written.any(|commit| commit.state.is_some() && tables.is_hidden(commit.id)))
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
        if !self.may_write(&self.records.tables.lock().unwrap(), commits)? {
            return Ok(RowsWritten::Overtaken);
        }
        let refused = self.records.refused.lock().unwrap();
        if commits.iter().any(|commit| commit.row_changed && refused.contains(&commit.id)) {
            return Err(Fault::new(FaultClass::Rejected, "memory: merge", "refused by the table"));
        }
        drop(refused);
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
        if self.is_overtaken(&tables) || !self.may_write(&tables, &commits)? {
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

fn weight(state: Option<&State>) -> usize {
    state.map_or(0, |state| state.chunk.weight())
}

#[async_trait]
impl SystemOfRecord for MemoryRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn takes_writes(&self) -> Result<(), Fault> {
        self.tables.lock().unwrap().check_writes()
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
        tables.check_writes()?;
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
        let mut current: Vec<CurrentState> = ids.iter().map(|id| tables.held(*id)).collect();
        current.truncate(read_together(current.iter().map(|current| weight(current.state.as_deref()))));
        Ok(current)
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        let tables = self.tables.lock().unwrap();
        let records = tables.records.range(above(after)).take(limit).map(|(id, _)| *id);
        let rows =
            tables.rows.range(above(after)).map(|(id, _)| *id).filter(|id| !tables.hidden.contains(id)).take(limit);
        let ids: BTreeSet<Uuid> = records.chain(rows).collect();
        let mut rows: Vec<Row> = ids.into_iter().take(limit).filter_map(|id| tables.row(id)).collect();
        let found = rows.len();
        rows.truncate(read_together(rows.iter().map(|row| weight(row.state.as_deref()))));
        Ok(RowPage { is_last: rows.len() == found && found < limit, rows })
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        self.reads.lock().unwrap().rows += ids.len();
        let tables = self.tables.lock().unwrap();
        let mut rows: Vec<Option<Row>> = ids.iter().map(|id| tables.row(*id)).collect();
        let state = |row: &Option<Row>| weight(row.as_ref().and_then(|row| row.state.as_deref()));
        rows.truncate(read_together(rows.iter().map(state)));
        Ok(rows)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.tables.lock().unwrap().rows.len() as u64;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }
}
