//! Inspects a log without changing it, also while a service writes to it.

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
use crate::set_aside::SetAside;

/// The contents of a log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The files of the log, oldest first.
    pub files: Vec<FileReport>,
    /// Bytes in all files.
    pub bytes: u64,
    /// Lines in all files, including damaged ones.
    pub lines: u64,
    /// The number of pending operations.
    pub pending: u64,
    /// When the oldest pending operation was appended.
    pub oldest_pending: Option<Timestamp>,
    /// The number of completions without a pending line in these files. Usually the file of the pending line was
    /// removed, else that line is among the damaged ones. They have no effect.
    pub unmatched: u64,
    /// The damaged lines.
    pub damaged: Vec<Flawed>,
    /// A last line without its end. While a service is writing, this is a write in progress; otherwise a crash left it,
    /// and the next start cuts it off.
    pub torn: Option<Torn>,
}

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The name of the file.
    pub name: String,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// Lines in the file, including damaged ones.
    pub lines: u64,
    /// The number of pending operations that began in the file.
    pub pending: u64,
}

/// A damaged line, and whether it was reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flawed {
    /// The place and the kind of the damage.
    #[serde(flatten)]
    pub damage: Damage,
    /// Whether an earlier start reported the line and set it aside. Later starts ignore such a line.
    pub set_aside: bool,
}

/// Inspects the log in `dir`.
///
/// # Errors
/// [`WalError::Disk`] if `dir` does not exist or a file cannot be read.
pub fn inspect(dir: &Path) -> Result<Report, WalError> {
    let disk = RealDisk::read_only(dir);
    disk.list().map_err(WalError::disk("list", dir.display().to_string()))?;
    inspect_on(&disk)
}

/// Inspects the log on `disk`.
///
/// # Errors
/// [`WalError::Disk`] if the directory or a file cannot be read.
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
            // The file was removed after the list was made. Files are removed oldest first, so all earlier ones are
            // gone, too.
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
        let set_aside = SetAside::of(disk, &name)?;
        let flawed = |(damage, mark)| Flawed { damage, set_aside: set_aside.contains(mark) };
        report.damaged.extend(found.damaged.into_iter().map(flawed));
    }
    report.torn = found.torn;
    Ok(FileReport { name, bytes, lines: found.lines, pending: 0 })
}
