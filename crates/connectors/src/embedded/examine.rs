//! What keeps a directory from being used. Looks only; nothing is created.

use std::path::Path;

use chunk_sync_engine::ports::{Finding, Findings};
use std::os::unix::fs::PermissionsExt;

use rusqlite::{Connection, OpenFlags};

use super::{FILE, lock, strain};

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
        Ok(None) => findings.ok("directory", format!("{shown}, no process works it")),
        Ok(Some(holder)) => findings.ok(
            "directory",
            format!("{shown} is worked by {}", if holder.is_empty() { "another process" } else { &holder }),
        ),
        Err(error) => findings.failed("directory", format!("{shown}: {error}"), "make it readable to this user"),
    }
    let file = dir.join(FILE);
    if file.exists() {
        modes(&mut findings, dir, &file);
        database(&mut findings, &file);
    }
    findings.into_list()
}

/// The chunks' text is for the user of the service alone.
fn modes(findings: &mut Findings, dir: &Path, file: &Path) {
    let open = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if open(dir) && open(file) {
        let text = format!("other users can read {}", file.display());
        findings.warning("modes", text, format!("chmod 700 {}; chmod 600 {}*", dir.display(), file.display()));
    }
}

fn database(findings: &mut Findings, file: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let asked = Connection::open_with_flags(file, flags).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok(connection)
    });
    match asked {
        Ok(mut connection) => {
            findings.ok("database", format!("{} can be read", file.display()));
            for strain in strain::seen_beside(&mut connection, file) {
                findings.warning("others", strain.text, strain.remedy);
            }
        }
        Err(error) => {
            let text = format!("{}: {error}", file.display());
            findings.failed("database", text, "restore it from a backup, or begin again in another directory");
        }
    }
}
