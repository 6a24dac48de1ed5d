//! What other programs do to the file, as far as SQLite shows it: a reader that keeps the -wal file from being reset, and a
//! writer that keeps everybody else waiting.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::database::Database;

/// The -wal file is reset after some megabytes as long as no reader stays behind.
pub(super) const LARGE: u64 = 16 << 20;

/// Transactions of this program are shorter by far.
pub(super) const LONG: Duration = Duration::from_secs(1);

/// One thing that another program does to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strain {
    /// What it does.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// The -wal file of a database.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// A reader that stays on an old snapshot. Copies what is committed from the -wal file into the file, as every writer does
/// now and then; a reader on an old snapshot is what keeps that from reaching the end.
pub(super) fn reader(connection: &Connection, path: &Path) -> Option<Strain> {
    let bytes = std::fs::metadata(wal(path)).map(|file| file.len()).unwrap_or_default();
    if bytes < LARGE {
        return None;
    }
    let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (written, copied) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages).ok()?;
    (copied < written).then(|| Strain {
        text: format!(
            "another program reads an old snapshot of {}: the -wal file has {} MiB and grows, {} of its {written} pages \
             cannot be put back",
            path.display(),
            bytes >> 20,
            written - copied
        ),
        remedy: format!("end the transaction of that program: `lsof {}` names it", path.display()),
    })
}

/// A writer that has had the write lock for longer than any transaction of this program takes.
pub(super) fn writer(path: &Path, waited: Duration) -> Strain {
    Strain {
        text: format!(
            "another program has held the write lock of {} for more than {} s",
            path.display(),
            waited.as_secs().max(1)
        ),
        remedy: format!("end the transaction of that program: `lsof {}` names it", path.display()),
    }
}

/// What a running service sees.
pub(super) fn seen_by(database: &Database) -> Vec<Strain> {
    let waited = database.waiting().filter(|waited| *waited > LONG);
    let writer = waited.map(|waited| writer(database.path(), waited));
    let reader = database.if_idle(|connection| reader(connection, database.path())).flatten();
    writer.into_iter().chain(reader).collect()
}

/// What a program that stands beside sees. Blocks for [`LONG`] at most.
pub(super) fn seen_beside(connection: &mut Connection, path: &Path) -> Vec<Strain> {
    let begun = connection
        .busy_timeout(LONG)
        .and_then(|()| connection.transaction_with_behavior(TransactionBehavior::Immediate).map(drop));
    let busy = begun.is_err_and(|error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy));
    busy.then(|| writer(path, LONG)).into_iter().chain(reader(connection, path)).collect()
}
