//! Looks at a log without changing it, also while a service is writing it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::WalError;
use crate::disk::{Disk, RealDisk};
use crate::hour::Hour;
use crate::index::Index;
use crate::recovery::log_files;
use crate::scan::{Damage, Torn, scan};
use crate::set_aside::Aside;

/// What a log holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its files, oldest first.
    pub files: Vec<FileReport>,
    /// Bytes in all files.
    pub bytes: u64,
    /// Lines in all files, good or not.
    pub lines: u64,
    /// Operations that have begun and not ended.
    pub pending: u64,
    /// When the oldest of them was appended.
    pub oldest_pending: Option<Timestamp>,
    /// Completions of operations that did not begin in these files: as a rule their files were removed, else the beginnings
    /// are among the damaged lines. Nothing comes of them.
    pub unmatched: u64,
    /// Lines that cannot be believed.
    pub damaged: Vec<Flawed>,
    /// A last line without its end. While a service is writing, that is a write under way; otherwise it is what a crash
    /// left, and the next start cuts it off.
    pub torn: Option<Torn>,
}

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its lines, good or not.
    pub lines: u64,
    /// How many of the pending operations began in it.
    pub pending: u64,
}

/// A damaged line, and whether a start has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flawed {
    /// What and where.
    #[serde(flatten)]
    pub damage: Damage,
    /// Reported by an earlier start and set aside; nothing more will come of it.
    pub set_aside: bool,
}

/// Looks at the log in `dir`, which must exist.
pub fn inspect(dir: &Path) -> Result<Report, WalError> {
    let disk = RealDisk::read_only(dir);
    disk.list().map_err(WalError::disk("list", dir.display().to_string()))?;
    inspect_on(&disk)
}

/// Looks at the log on `disk`.
pub fn inspect_on(disk: &dyn Disk) -> Result<Report, WalError> {
    let hours = log_files(disk).map_err(WalError::disk("list", "the directory of the log"))?;
    let newest = hours.last_key_value().map(|(hour, _)| *hour);
    let mut report = Report::default();
    let mut files = BTreeMap::new();
    let mut index = Index::default();
    for (hour, bytes) in hours {
        match inspect_file(disk, hour, bytes, Some(hour) == newest, &mut index, &mut report) {
            Ok(file) => {
                files.insert(hour, file);
            }
            // Retired since the list was made. Files go oldest first, so all before it are gone too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (report, index) = Default::default();
                files.clear();
            }
            Err(error) => return Err(WalError::disk("read", hour.file())(error)),
        }
    }
    for hour in index.hours() {
        report.pending += 1;
        if let Some(file) = files.get_mut(&hour) {
            file.pending += 1;
        }
    }
    report.oldest_pending = index.oldest();
    report.unmatched = index.unmatched();
    report.files = files.into_values().collect();
    report.bytes = report.files.iter().map(|file| file.bytes).sum();
    report.lines = report.files.iter().map(|file| file.lines).sum();
    Ok(report)
}

fn inspect_file(
    disk: &dyn Disk,
    hour: Hour,
    bytes: u64,
    newest: bool,
    index: &mut Index,
    report: &mut Report,
) -> io::Result<FileReport> {
    let name = hour.file();
    let found = scan(&*disk.open(&name)?, hour, newest, index)?;
    if !found.damaged.is_empty() {
        let aside = Aside::of(disk, &name)?;
        let flawed = |(damage, mark)| Flawed { damage, set_aside: aside.knows(mark) };
        report.damaged.extend(found.damaged.into_iter().map(flawed));
    }
    report.torn = found.torn;
    Ok(FileReport { name, bytes, lines: found.lines, pending: 0 })
}
