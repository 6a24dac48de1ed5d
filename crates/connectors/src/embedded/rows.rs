//! The system of record in SQLite: a row per chunk, with its record, its outbox entries and its conflicts, all written
//! in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Commit, ConflictFilter, ConflictRecord, Counts, CurrentState, Decide, Fault, MergeScope, PendingWrite,
    Records, Row, Store, StoredDocument, StoredFingerprint, Write,
};
use chunk_sync_model::document::{Document, Fingerprint, row_fingerprint};
use chunk_sync_model::{Chunk, Hash, Record, State, SyncVersion, Target, Time};
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::conflicts;
use super::database::{Database, Durability};
use super::fault::Error;
use super::fence;
use super::values::{ids_above, limit_of, version};

const MERGE: &str = "embedded rows: merge";
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

    async fn read_rows<F>(&self, work: F) -> Result<Vec<Option<Row>>, Fault>
    where
        F: FnOnce(&Transaction<'_>) -> Result<Vec<Option<Row>>, Error> + Send + 'static,
    {
        self.database.read(READ, work).await
    }
}

#[async_trait]
impl Store for Rows {
    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn prepare(&self) -> Result<(), Fault> {
        // The tables were created when the file was opened.
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let owned = writes.to_vec();
        let written = self.database.write(MERGE, Durability::Synced, move |transaction| {
            owned.iter().map(|write| apply(transaction, write)).collect::<Result<Vec<_>, Error>>()
        });
        written.await.unwrap_or_else(|fault| vec![Applied::Failed(fault); writes.len()])
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        Ok(self.rows_of(ids).await?.into_iter().map(|row| row.and_then(looked)).collect())
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        let rows = self.read_rows(move |transaction| page("SELECT id FROM rows", transaction, after, limit)).await?;
        Ok(rows.into_iter().flatten().filter_map(looked).map(|looked| looked.seen()).collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        row_fingerprint(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let count = |transaction: &Transaction<'_>| {
            Ok(transaction.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, i64>(0))?)
        };
        let chunks = self.database.read(READ, count).await?.unsigned_abs();
        Ok(Counts { chunks, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        self.database.write("embedded rows: check", Durability::Lazy, |_| Ok(())).await
    }
}

#[async_trait]
impl Records for Rows {
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault> {
        // `decide` borrows from its caller and cannot move to another thread, so this thread blocks instead.
        tokio::task::block_in_place(|| {
            self.database.write_now(Durability::Synced, |transaction| {
                fence::check(transaction, scope.fence, MERGE)?;
                if scope.fence.lease.is_some_and(|token| !self.database.lease.is(token)) {
                    return Err(Error::Lease);
                }
                let held = scope.ids.iter().map(|id| held(transaction, *id)).collect::<Result<Vec<_>, _>>()?;
                decide(held).iter().try_for_each(|commit| store(transaction, commit))
            })
        })
        .map_err(|error| error.into_fault(MERGE))
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        const IDS: &str = "SELECT id FROM (SELECT id FROM rows UNION SELECT id FROM records)";
        let rows = self.read_rows(move |transaction| page(IDS, transaction, after, limit)).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        let ids = ids.to_vec();
        self.read_rows(move |transaction| ids.iter().map(|id| row(transaction, *id)).collect()).await
    }

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

    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault> {
        let filter = filter.clone();
        self.database.read(CONFLICTS, move |transaction| conflicts::list(transaction, &filter, limit)).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.database.read(CONFLICTS, conflicts::count_open).await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        let work = move |transaction: &Transaction<'_>| conflicts::forget(transaction, before, limit);
        self.database.write(CONFLICTS, Durability::Lazy, work).await
    }
}

fn looked(row: Row) -> Option<StoredDocument> {
    Some(StoredDocument { id: row.id, version: row.version, document: Document::Row(row.state?) })
}

/// A page of rows. `ids` is a query with one column `id`; the page takes its ids above `after`, in ascending order.
fn page(
    ids: &str,
    transaction: &Transaction<'_>,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Option<Row>>, Error> {
    ids_above(transaction, ids, after, limit)?.into_iter().map(|id| row(transaction, id)).collect()
}

fn row(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Row>, Error> {
    let state = state(transaction, id)?;
    let mut statement = transaction.prepare_cached("SELECT version, lives, row_digest FROM records WHERE id = ?1")?;
    let record = statement
        .query_row([id], |row| Ok((version(row.get(0)?), row.get(1)?, row.get::<_, Option<[u8; 16]>>(2)?)))
        .optional()?;
    Ok(match (record, state) {
        (None, None) => None,
        (None, state) => Some(Row { id, version: SyncVersion::default(), lives: None, seen: None, state }),
        (Some((version, lives, seen)), state) => {
            Some(Row { id, version, lives: Some(lives), seen: seen.map(Hash::from_bytes), state })
        }
    })
}

fn state(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Arc<State>>, Error> {
    let mut statement = transaction.prepare_cached("SELECT chunk, embedding_stale FROM rows WHERE id = ?1")?;
    let found = statement.query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional()?;
    let Some((json, embedding_stale)) = found else {
        return Ok(None);
    };
    let chunk: Chunk = serde_json::from_str(&json)
        .map_err(|error| Error::Unreadable("the chunk of a row", format!("{id}: {error}")))?;
    Ok(Some(Arc::new(State { chunk, embedding_stale })))
}

fn held(transaction: &Transaction<'_>, id: Uuid) -> Result<CurrentState, Error> {
    let mut statement = transaction.prepare_cached("SELECT record, row_digest FROM records WHERE id = ?1")?;
    let found = statement
        .query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<[u8; 16]>>(1)?)))
        .optional()?;
    let state = state(transaction, id)?;
    let Some((record, row)) = found else {
        return Ok(CurrentState { record: None, state, row: None });
    };
    let record = Record::decode(&record).map_err(|error| Error::Unreadable("a record", format!("{id}: {error}")))?;
    Ok(CurrentState { record: Some(record), state, row: row.map(Hash::from_bytes) })
}

fn store(transaction: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    if commit.row_changed {
        set_row(transaction, commit.id, commit.state.as_deref())?;
    }
    set_record(transaction, commit.id, &commit.record, commit.row)?;
    for target in &commit.outbox {
        enqueue(transaction, &PendingWrite { id: commit.id, target: *target, version: commit.record.version })?;
    }
    conflicts::write(transaction, commit)
}

fn set_row(transaction: &Transaction<'_>, id: Uuid, state: Option<&State>) -> Result<(), Error> {
    let Some(state) = state else {
        transaction.prepare_cached("DELETE FROM rows WHERE id = ?1")?.execute([id])?;
        return Ok(());
    };
    let json = serde_json::to_string(&state.chunk)
        .map_err(|error| Error::Unreadable("the JSON of a chunk", format!("{id}: {error}")))?;
    let sql = "INSERT INTO rows (id, chunk, embedding_stale) VALUES (?1, ?2, ?3)
        ON CONFLICT (id) DO UPDATE SET chunk = excluded.chunk, embedding_stale = excluded.embedding_stale";
    transaction.prepare_cached(sql)?.execute(params![id, json, state.embedding_stale])?;
    Ok(())
}

fn set_record(transaction: &Transaction<'_>, id: Uuid, record: &Record, row: Option<Hash>) -> Result<(), Error> {
    let bytes =
        record.encode().map_err(|error| Error::Unreadable("the encoding of a record", format!("{id}: {error}")))?;
    let sql = "INSERT INTO records (id, version, lives, record, row_digest) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, lives = excluded.lives, record = excluded.record,
            row_digest = excluded.row_digest";
    let digest = row.map(|row| *row.bytes());
    transaction.prepare_cached(sql)?.execute(params![id, record.version.signed(), record.lives(), bytes, digest])?;
    Ok(())
}

fn enqueue(transaction: &Transaction<'_>, pending_write: &PendingWrite) -> Result<(), Error> {
    let sql = "INSERT INTO outbox (target, id, version) VALUES (?1, ?2, ?3)
        ON CONFLICT (target, id) DO UPDATE SET version = max(version, excluded.version)";
    transaction.prepare_cached(sql)?.execute(params![
        pending_write.target.as_str(),
        pending_write.id,
        pending_write.version.signed()
    ])?;
    Ok(())
}

/// Writes a state the way every other store does, guarded by the version in the record. The record keeps its settings.
fn apply(transaction: &Transaction<'_>, write: &Write) -> Result<Applied, Error> {
    let held = held(transaction, write.id)?;
    let mut record = held.record.unwrap_or_default();
    if record.version >= write.version {
        return Ok(Applied::Skipped);
    }
    record.version = write.version;
    let row = write.state.as_deref().map(|state| row_fingerprint(state).digest());
    set_row(transaction, write.id, write.state.as_deref())?;
    set_record(transaction, write.id, &record, row)?;
    Ok(Applied::Written)
}
