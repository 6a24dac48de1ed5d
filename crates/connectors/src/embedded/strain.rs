//! Hindrance by other programs that have the file open, as far as SQLite shows it: a reader that keeps the -wal file
//! from being reset, and a writer that blocks all other writers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::database::Database;

/// Size of the -wal file in bytes above which a reader is suspected. SQLite resets the file after some megabytes unless
/// a reader stays on an old snapshot.
pub(super) const LARGE: u64 = 16 << 20;

/// Wait for the write lock above which another program is suspected. Transactions of this program are far shorter.
pub(super) const LONG: Duration = Duration::from_secs(1);

/// One way in which another program hinders this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strain {
    /// What the other program does, with the path of the file.
    pub text: String,
    /// What the operator can do about it.
    pub remedy: String,
}

/// The -wal file of a database.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Detects a reader that stays on an old snapshot. Runs a passive checkpoint, which copies committed pages from the
/// -wal file into the database, as every writer does from time to time; only a reader on an old snapshot keeps it from
/// completing.
pub(super) fn reader(connection: &Connection, path: &Path) -> Option<Strain> {
    let bytes = std::fs::metadata(wal(path)).map(|file| file.len()).unwrap_or_default();
    if bytes < LARGE {
        return None;
    }
    let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (written, copied) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages).ok()?;
    (copied < written).then(|| Strain {
        text: format!(
            "another program reads an old snapshot of {}: the -wal file has {} MiB and grows; {} of its {written} \
             pages cannot be copied into the database",
            path.display(),
            bytes >> 20,
            written - copied
        ),
        remedy: format!("end the transaction of that program; `lsof {}` shows the process", path.display()),
    })
}

/// Describes a writer that has held the write lock for longer than any transaction of this program takes.
pub(super) fn writer(path: &Path, waited: Duration) -> Strain {
    Strain {
        text: format!(
            "another program has held the write lock of {} for more than {} s",
            path.display(),
            waited.as_secs().max(1)
        ),
        remedy: format!("end the transaction of that program; `lsof {}` shows the process", path.display()),
    }
}

/// Checks from the running service, by its own connections.
pub(super) fn seen_by(database: &Database) -> Vec<Strain> {
    let waited = database.waiting().filter(|waited| *waited > LONG);
    let writer = waited.map(|waited| writer(database.path(), waited));
    let reader = database.if_idle(|connection| reader(connection, database.path())).flatten();
    writer.into_iter().chain(reader).collect()
}

/// Checks from another process, by its own connection. Blocks for at most [`LONG`].
pub(super) fn seen_beside(connection: &mut Connection, path: &Path) -> Vec<Strain> {
    let begun = connection
        .busy_timeout(LONG)
        .and_then(|()| connection.transaction_with_behavior(TransactionBehavior::Immediate).map(drop));
    let busy = begun.is_err_and(|error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy));
    busy.then(|| writer(path, LONG)).into_iter().chain(reader(connection, path)).collect()
}
