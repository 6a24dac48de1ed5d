//! The note on the absent row of a chunk, read and written inside the transaction of a merge.

use chunk_sync_engine::ports::{AbsenceNote, Commit, NoteChange};
use chunk_sync_model::Time;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::fault::Error;

/// The note of a chunk, as a merge reads it.
pub(super) fn note(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<AbsenceNote>, Error> {
    let mut statement = transaction.prepare_cached("SELECT newest_change, approved FROM absent WHERE id = ?1")?;
    let note = |row: &Row<'_>| {
        let newest_change = row.get::<_, Option<i64>>(0)?.map(Time::from_micros);
        Ok(AbsenceNote { newest_change, approved: row.get(1)? })
    };
    Ok(statement.query_row([id], note).optional()?)
}

/// Writes what a commit does to the note of its chunk.
pub(super) fn write_note(transaction: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    match commit.absence {
        NoteChange::Keep => return Ok(()),
        NoteChange::Note { newest, at } => {
            let sql = "INSERT INTO absent (id, cause, noted_at, newest_change) VALUES (?1, 'merge', ?2, ?3)
                ON CONFLICT (id) DO UPDATE SET newest_change = coalesce(newest_change, excluded.newest_change)";
            transaction.prepare_cached(sql)?.execute(params![commit.id, at.micros(), newest.micros()])?;
            return Ok(());
        }
        NoteChange::Remove => {}
        NoteChange::Deleted(at) => {
            let sql = "INSERT OR IGNORE INTO absence_deletions (id, deleted_at) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute(params![commit.id, at.micros()])?;
        }
    }
    transaction.prepare_cached("DELETE FROM absent WHERE id = ?1")?.execute([commit.id])?;
    Ok(())
}
