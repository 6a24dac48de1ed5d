//! What keeps a directory from being used. Looks only; nothing is created but a file that is removed again.

use std::path::Path;

use chunk_sync_engine::ports::{Finding, Findings};
use rusqlite::{Connection, OpenFlags};

use super::{FILE, lock};

/// Looks at the directory of the embedded stores. Blocks.
#[must_use]
pub fn examine(dir: &Path) -> Vec<Finding> {
    let mut findings = Findings::of("embedded");
    let shown = dir.display();
    if !dir.exists() {
        findings.ok("directory", format!("{shown} is made when it is first used"));
        return findings.into_list();
    }
    match lock::held_by(dir) {
        Ok(None) => findings.ok("directory", format!("{shown}, nobody holds it")),
        Ok(Some(holder)) => findings.warning(
            "directory",
            format!("{shown} is held by {}", if holder.is_empty() { "another process" } else { &holder }),
            "other commands are refused meanwhile: stop that one first, or talk to it over HTTP",
        ),
        Err(error) => findings.failed("directory", format!("{shown}: {error}"), "make it readable to this user"),
    }
    let file = dir.join(FILE);
    if file.exists() {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let asked = Connection::open_with_flags(&file, flags)
            .and_then(|file| file.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)));
        match asked {
            Ok(_) => findings.ok("database", format!("{} can be read", file.display())),
            Err(error) => {
                let text = format!("{}: {error}", file.display());
                findings.failed("database", text, "give it back from a backup, or begin anew in another directory");
            }
        }
    }
    findings.into_list()
}
