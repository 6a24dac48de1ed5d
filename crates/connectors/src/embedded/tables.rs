//! The tables of rows, records and outbox: reads and writes inside a transaction.

use std::sync::Arc;

use chunk_sync_engine::ports::{Commit, CurrentState, PendingWrite, Row};
use chunk_sync_model::{Chunk, Hash, Record, State, SyncVersion};
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::fault::Error;
use super::values::version;
use super::{conflicts, notes};

pub(super) fn row(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Row>, Error> {
    let state = state(transaction, id)?;
    let mut statement = transaction.prepare_cached("SELECT version, lives, row_digest FROM records WHERE id = ?1")?;
    let record = statement
        .query_row([id], |row| Ok((version(row.get(0)?), row.get(1)?, row.get::<_, Option<[u8; 16]>>(2)?)))
        .optional()?;
    Ok(match (record, state) {
        (None, None) => None,
        (None, state) => {
            Some(Row { id, version: SyncVersion::default(), lives: None, seen: None, state, oversize: false })
        }
        (Some((version, lives, seen)), state) => {
            Some(Row { id, version, lives: Some(lives), seen: seen.map(Hash::from_bytes), state, oversize: false })
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

pub(super) fn current(transaction: &Transaction<'_>, id: Uuid) -> Result<CurrentState, Error> {
    let mut statement = transaction.prepare_cached("SELECT record, row_digest FROM records WHERE id = ?1")?;
    let found = statement
        .query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<[u8; 16]>>(1)?)))
        .optional()?;
    let state = state(transaction, id)?;
    let Some((record, row)) = found else {
        return Ok(CurrentState { record: None, state, row: None, absence: None });
    };
    let record = Record::decode(&record).map_err(|error| Error::Unreadable("a record", format!("{id}: {error}")))?;
    let absence = notes::note(transaction, id)?;
    Ok(CurrentState { record: Some(record), state, row: row.map(Hash::from_bytes), absence })
}

pub(super) fn store(transaction: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    if commit.row_changed {
        set_row(transaction, commit.id, commit.state.as_deref())?;
    }
    set_record(transaction, commit.id, &commit.record, commit.row)?;
    for target in &commit.outbox {
        enqueue(transaction, &PendingWrite { id: commit.id, target: *target, version: commit.record.version })?;
    }
    conflicts::write(transaction, commit)?;
    notes::write_note(transaction, commit)
}

pub(super) fn set_row(transaction: &Transaction<'_>, id: Uuid, state: Option<&State>) -> Result<(), Error> {
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
    let sql = "INSERT INTO records (id, version, lives, record, row_digest, merged_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, lives = excluded.lives, record = excluded.record,
            row_digest = excluded.row_digest, merged_at = excluded.merged_at, swept = 0";
    let now = jiff::Timestamp::now().as_microsecond();
    let digest = row.map(|row| *row.bytes());
    transaction.prepare_cached(sql)?.execute(params![
        id,
        record.version.signed(),
        record.lives(),
        bytes,
        digest,
        now
    ])?;
    Ok(())
}

pub(super) fn enqueue(transaction: &Transaction<'_>, pending_write: &PendingWrite) -> Result<(), Error> {
    let sql = "INSERT INTO outbox (target, id, version) VALUES (?1, ?2, ?3)
        ON CONFLICT (target, id) DO UPDATE SET version = max(version, excluded.version)";
    transaction.prepare_cached(sql)?.execute(params![
        pending_write.target.as_str(),
        pending_write.id,
        pending_write.version.signed()
    ])?;
    Ok(())
}
