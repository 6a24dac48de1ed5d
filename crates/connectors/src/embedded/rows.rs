//! The system of record in SQLite: a row per chunk, with its record, its outbox entries and its conflicts, all written
//! in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    ConflictFilter, ConflictLog, ConflictPage, Counts, CurrentState, Fault, MergeScope, MergeTransaction, Outbox,
    PendingWrite, READ_BYTES, Row, RowPage, SystemOfRecord,
};
use chunk_sync_model::{Target, Time};
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::conflicts;
use super::database::{Database, Durability};
use super::fault::Error;
use super::merge::Merge;
use super::tables::{current, enqueue, row};
use super::values::{ids_above, limit_of, version};

const READ: &str = "embedded rows: read";
const PENDING_WRITES: &str = "embedded rows: outbox";
const CONFLICTS: &str = "embedded rows: conflicts";

/// The rows, their records, and the outbox of each store.
pub struct Rows {
    pub(super) database: Arc<Database>,
}

impl Rows {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

/// Reads the first of these chunks, as many as have [`READ_BYTES`] together, and at least one.
fn first<T>(
    ids: &[Uuid],
    read: impl Fn(Uuid) -> Result<T, Error>,
    weight: impl Fn(&T) -> usize,
) -> Result<Vec<T>, Error> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let one = read(*id)?;
        bytes += weight(&one);
        if bytes > READ_BYTES && !found.is_empty() {
            break;
        }
        found.push(one);
    }
    Ok(found)
}

fn weight(row: &Option<Row>) -> usize {
    row.as_ref().and_then(|row| row.state.as_ref()).map_or(0, |state| state.chunk.weight())
}

#[async_trait]
impl SystemOfRecord for Rows {
    async fn prepare(&self) -> Result<(), Fault> {
        // The tables were created when the file was opened.
        Ok(())
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        Ok(Box::new(Merge::begin(&self.database, scope).await?))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        let ids = ids.to_vec();
        let weight = |current: &CurrentState| current.state.as_ref().map_or(0, |state| state.chunk.weight());
        self.database.read(READ, move |transaction| first(&ids, |id| current(transaction, id), weight)).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault> {
        const IDS: &str = "SELECT id FROM (SELECT id FROM rows UNION SELECT id FROM records)";
        let work = move |transaction: &Transaction<'_>| {
            let ids = ids_above(transaction, IDS, after, limit)?;
            let rows = first(&ids, |id| row(transaction, id), weight)?;
            let is_last = rows.len() == ids.len() && ids.len() < limit;
            Ok(RowPage { rows: rows.into_iter().flatten().collect(), is_last })
        };
        self.database.read(READ, work).await
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let ids = ids.to_vec();
        self.database.read(READ, move |transaction| first(&ids, |id| row(transaction, id), weight)).await
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let count = |transaction: &Transaction<'_>| {
            Ok(transaction.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, i64>(0))?)
        };
        let chunks = self.database.read(READ, count).await?.unsigned_abs();
        Ok(Counts { chunks, others: BTreeMap::new() })
    }
}

#[async_trait]
impl Outbox for Rows {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let pending_writes = pending_writes.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            pending_writes.iter().try_for_each(|pending_write| enqueue(transaction, pending_write))
        };
        self.database.write(PENDING_WRITES, Durability::Synced, work).await
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT id, version FROM outbox WHERE target = ?1 ORDER BY seq LIMIT ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            let pending_writes = statement.query_map(params![target.as_str(), limit_of(limit)], |row| {
                Ok(PendingWrite { id: row.get(0)?, target, version: version(row.get(1)?) })
            })?;
            Ok(pending_writes.collect::<Result<_, _>>()?)
        };
        self.database.read(PENDING_WRITES, work).await
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let pending_writes = pending_writes.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let sql = "DELETE FROM outbox WHERE target = ?1 AND id = ?2 AND version <= ?3";
            let mut statement = transaction.prepare_cached(sql)?;
            for pending_write in &pending_writes {
                statement.execute(params![
                    pending_write.target.as_str(),
                    pending_write.id,
                    pending_write.version.signed()
                ])?;
            }
            Ok(())
        };
        self.database.write(PENDING_WRITES, Durability::Synced, work).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("SELECT count(*) FROM outbox WHERE target = ?1")?;
            let count = |target: Target| {
                Ok((target, statement.query_row([target.as_str()], |row| row.get::<_, i64>(0))?.unsigned_abs()))
            };
            Target::ALL.into_iter().map(count).collect()
        };
        self.database.read(PENDING_WRITES, work).await
    }
}

#[async_trait]
impl ConflictLog for Rows {
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault> {
        let filter = filter.clone();
        self.database.read(CONFLICTS, move |transaction| conflicts::list(transaction, &filter, limit)).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.database.read(CONFLICTS, conflicts::count_open).await
    }

    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault> {
        self.database.read(CONFLICTS, move |transaction| conflicts::bytes(transaction, enough)).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        let work = move |transaction: &Transaction<'_>| conflicts::forget(transaction, before, limit);
        self.database.write(CONFLICTS, Durability::Lazy, work).await
    }
}
