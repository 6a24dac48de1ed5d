//! The conflict records in SQLite: statements that run inside the transactions of the rows.

use chunk_sync_engine::ports::{Commit, ConflictFilter, ConflictPage, ConflictRecord, NewConflict, Resolution};
use chunk_sync_model::merge::{Conflict, Strategy};
use chunk_sync_model::{Time, Writer};
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::fault::Error;
use super::values::{limit_of, version};

/// Closes the open conflicts that a merge decided, then inserts those that it found.
pub(super) fn write(transaction: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    for decided in &commit.decided {
        let sql = "UPDATE conflicts SET closed_at = ?3, closed_by = ?4
            WHERE chunk = ?1 AND part = ?2 AND outcome = 'open' AND closed_at IS NULL";
        let Resolution { at, by } = decided.closed;
        let part = decided.part.to_string();
        transaction.prepare_cached(sql)?.execute(params![commit.id, part, at.micros(), by.as_str()])?;
    }
    commit.conflicts.iter().try_for_each(|noted| add(transaction, commit.id, noted))
}

fn add(transaction: &Transaction<'_>, chunk: Uuid, noted: &NewConflict) -> Result<(), Error> {
    let sql =
        "INSERT INTO conflicts (chunk, met_at, part, kind, strategy, outcome, source_writer, target_writer, version,
            conflict, closed_at, closed_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let conflict = &noted.conflict;
    transaction.prepare_cached(sql)?.execute(params![
        chunk,
        noted.at.micros(),
        conflict.part.to_string(),
        conflict.kind.as_str(),
        conflict.strategy.to_string(),
        conflict.outcome.as_str(),
        conflict.source.writer.map(Writer::as_str),
        conflict.target.writer.map(Writer::as_str),
        noted.sync_version.signed(),
        conflict.to_json(),
        noted.closed.map(|closed| closed.at.micros()),
        noted.closed.map(|closed| closed.by.as_str()),
    ])?;
    Ok(())
}

pub(super) fn list(
    transaction: &Transaction<'_>,
    filter: &ConflictFilter,
    limit: usize,
) -> Result<ConflictPage, Error> {
    let sql = "SELECT id, chunk, met_at, version, conflict, closed_at, closed_by FROM conflicts
        WHERE (?1 IS NULL OR chunk = ?1) AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR strategy = ?3)
            AND (?4 IS NULL OR outcome = ?4) AND (?5 IS NULL OR ?5 IN (source_writer, target_writer))
            AND (NOT ?6 OR (outcome = 'open' AND closed_at IS NULL)) AND (?7 IS NULL OR met_at >= ?7)
            AND (?8 IS NULL OR id < ?8)
        ORDER BY id DESC LIMIT ?9";
    let mut statement = transaction.prepare_cached(sql)?;
    let selection = params![
        filter.chunk,
        filter.kind.map(|kind| kind.as_str()),
        filter.strategy.as_ref().map(Strategy::to_string),
        filter.outcome.map(|outcome| outcome.as_str()),
        filter.writer.map(Writer::as_str),
        filter.open,
        filter.since.map(Time::micros),
        filter.below.map(|id| i64::try_from(id).unwrap_or(i64::MAX)),
        limit_of(limit.saturating_add(1)),
    ];
    let sized = |row: &Row<'_>| {
        let bytes = row.get_ref(4)?.as_bytes().map_or(0, <[u8]>::len);
        Ok::<_, Error>((entry(row)?, bytes))
    };
    ConflictPage::fill(limit, statement.query_and_then(selection, sized)?)
}

fn entry(row: &Row<'_>) -> Result<ConflictRecord, Error> {
    let id = row.get::<_, i64>(0)?.unsigned_abs();
    let unreadable = |error: String| Error::Unreadable("a conflict record", format!("{id}: {error}"));
    let conflict = Conflict::from_json(row.get_ref(4)?.as_str().map_err(|error| unreadable(error.to_string()))?);
    let by = row.get::<_, Option<String>>(6)?.map(|by| by.parse()).transpose().map_err(unreadable)?;
    let at = row.get::<_, Option<i64>>(5)?.map(Time::from_micros);
    let noted = NewConflict {
        at: Time::from_micros(row.get(2)?),
        sync_version: version(row.get(3)?),
        closed: at.zip(by).map(|(at, by)| Resolution { at, by }),
        conflict: conflict.map_err(|error| unreadable(error.to_string()))?,
    };
    Ok(ConflictRecord { id, chunk: row.get(1)?, noted })
}

pub(super) fn count_open(transaction: &Transaction<'_>) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM conflicts WHERE outcome = 'open' AND closed_at IS NULL";
    let mut statement = transaction.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Added up only if the whole file has more than `enough` bytes.
pub(super) fn bytes(transaction: &Transaction<'_>, enough: u64) -> Result<u64, Error> {
    let file = super::database::bytes(transaction)?;
    if file <= enough {
        return Ok(file);
    }
    let sql = "SELECT coalesce(sum(length(conflict)), 0) FROM conflicts";
    Ok(transaction.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

pub(super) fn forget(transaction: &Transaction<'_>, before: Time, limit: usize) -> Result<u64, Error> {
    let sql = "DELETE FROM conflicts WHERE id IN (
        SELECT id FROM conflicts WHERE (outcome <> 'open' OR closed_at IS NOT NULL) AND coalesce(closed_at, met_at) < ?1
        ORDER BY coalesce(closed_at, met_at) LIMIT ?2)";
    Ok(transaction.prepare_cached(sql)?.execute(params![before.micros(), limit_of(limit)])? as u64)
}
