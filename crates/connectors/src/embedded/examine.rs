//! Checks whether a directory can hold the embedded stores. Read-only: creates no file.

use std::path::Path;

use chunk_sync_engine::ports::{Finding, Findings};
use rusqlite::{Connection, OpenFlags};

use super::{FILE, lock, strain};

/// Checks the directory of the embedded stores: its lock, database, and hindrance by other programs.
/// Blocks.
#[must_use]
pub fn examine(dir: &Path) -> Vec<Finding> {
    let mut findings = Findings::of("embedded");
    let shown = dir.display();
    if !dir.exists() {
        findings.ok("directory", format!("{shown} does not exist yet; the first use creates it"));
        return findings.into_list();
    }
    match lock::held_by(dir) {
        Ok(None) => findings.ok("directory", format!("{shown}, not locked by a process")),
        Ok(Some(holder)) => findings.ok(
            "directory",
            format!("{shown} is locked by {}", if holder.is_empty() { "another process" } else { &holder }),
        ),
        Err(error) => findings.failed("directory", format!("{shown}: {error}"), "make it readable for this user"),
    }
    let file = dir.join(FILE);
    if file.exists() {
        database(&mut findings, &file);
    }
    findings.into_list()
}

fn database(findings: &mut Findings, file: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let asked = Connection::open_with_flags(file, flags).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok(connection)
    });
    match asked {
        Ok(mut connection) => {
            findings.ok("database", format!("{} is readable", file.display()));
            for strain in strain::seen_beside(&mut connection, file) {
                findings.warning("others", strain.text, strain.remedy);
            }
        }
        Err(error) => {
            let text = format!("{}: {error}", file.display());
            findings.failed("database", text, "restore the file from a backup, or set embedded.dir to a new directory");
        }
    }
}
