//! `wal status` and `wal check`: read-only reports on the log on disk.

use std::path::{Path, PathBuf};

use chunk_sync_wal::{Damage, FileReport, Flawed, Report, Torn, inspect};
use jiff::Timestamp;
use serde::Serialize;

use super::held_by;
use crate::cli::{Ended, Failure, output};
use crate::config::Config;

/// The result of `wal status` as JSON.
#[derive(Serialize)]
pub(super) struct Status {
    pub(super) dir: PathBuf,
    /// The process that has the log open.
    pub(super) held_by: Option<String>,
    pub(super) bytes: u64,
    /// The configured maximum size.
    pub(super) max_bytes: u64,
    /// Bytes free on its disk.
    pub(super) free_bytes: Option<u64>,
    pub(super) lines: u64,
    pub(super) pending: u64,
    pub(super) oldest_pending: Option<Timestamp>,
    pub(super) damaged: u64,
    pub(super) torn: Option<Torn>,
    pub(super) files: Vec<FileReport>,
}

/// The result of `wal check` as JSON.
#[derive(Serialize)]
pub(super) struct Check {
    pub(super) dir: PathBuf,
    pub(super) held_by: Option<String>,
    pub(super) sound: bool,
    pub(super) files: usize,
    pub(super) lines: u64,
    pub(super) pending: u64,
    pub(super) damaged: Vec<Flawed>,
    /// An incomplete last line that no process is writing.
    pub(super) torn: Option<Torn>,
    /// Completions whose operations do not begin in these files.
    pub(super) unmatched: u64,
}

pub(super) async fn status(config: &Config, json: bool) -> Result<Ended, Failure> {
    let (held_by, report) = examine(&config.settings.wal.dir).await?;
    let dir = config.settings.wal.dir.clone();
    let status = Status {
        held_by,
        bytes: report.bytes,
        max_bytes: config.settings.wal.max_bytes,
        free_bytes: free(&dir),
        lines: report.lines,
        pending: report.pending,
        oldest_pending: report.oldest_pending,
        damaged: report.damaged.len() as u64,
        torn: report.torn,
        files: report.files,
        dir,
    };
    if json {
        output::json(&status)?;
    } else {
        output::line(status_text(&status, Timestamp::now()))?;
    }
    Ok(Ended::Fine)
}

pub(super) async fn check(config: &Config, json: bool) -> Result<Ended, Failure> {
    let dir = config.settings.wal.dir.clone();
    let (held_by, report) = examine(&dir).await?;
    let check = Check::of(dir, held_by, report);
    if json {
        output::json(&check)?;
    } else {
        output::line(check_text(&check))?;
    }
    Ok(if check.sound { Ended::Fine } else { Ended::Found })
}

/// The process that has the log open, and the report on its files. A directory that does not exist is an empty log.
///
/// # Errors
/// [`Failure::Unable`] if the directory, a file of the log or the lock file cannot be read.
async fn examine(dir: &Path) -> Result<(Option<String>, Report), Failure> {
    let dir = dir.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        if !dir.is_dir() {
            return Ok((None, Report::default()));
        }
        // Checked before and after: a process that starts or ends in between may be writing the last line.
        let before = held_by(&dir)?;
        let report = inspect(&dir).map_err(anyhow::Error::from)?;
        Ok((before.or(held_by(&dir)?), report))
    });
    task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Free bytes on the file system of a directory, or of its nearest existing ancestor; `None` if the system does not
/// report them.
pub(in crate::cli) fn free(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Check {
    pub(super) fn of(dir: PathBuf, held_by: Option<String>, report: Report) -> Self {
        // The process that has the log open may be in the middle of writing a line.
        let torn = report.torn.filter(|_| held_by.is_none());
        Self {
            dir,
            held_by,
            sound: report.damaged.is_empty() && torn.is_none(),
            files: report.files.len(),
            lines: report.lines,
            pending: report.pending,
            damaged: report.damaged,
            torn,
            unmatched: report.unmatched,
        }
    }
}

pub(super) fn status_text(status: &Status, now: Timestamp) -> String {
    let used = 100.0 * status.bytes as f64 / status.max_bytes.max(1) as f64;
    let free = status.free_bytes.map_or_else(String::new, |free| format!("; {} free on its disk", size(free)));
    let oldest = status.oldest_pending.map_or_else(String::new, |oldest| {
        let age = now.duration_since(oldest).as_secs().max(0);
        format!(", the oldest since {oldest:.0} ({} s)", output::number(age.unsigned_abs()))
    });
    let mut lines = vec![
        format!("log in {}: {}", status.dir.display(), usage_text(status.held_by.as_deref())),
        format!("{} of {} used ({used:.1} %){free}", size(status.bytes), size(status.max_bytes)),
        format!("{} pending{oldest}", output::count(status.pending, "operation")),
    ];
    if status.damaged > 0 {
        let damaged = output::count(status.damaged, "damaged line");
        lines.push(format!("{damaged}; run `chunk-sync wal check` to locate the damage"));
    }
    if status.torn.is_some() && status.held_by.is_none() {
        lines.push("the last line is torn; the next start truncates it".to_owned());
    }
    if !status.files.is_empty() {
        let rows = status.files.iter().map(|file| {
            vec![file.name.clone(), size(file.bytes), output::number(file.lines), output::number(file.pending)]
        });
        lines.push(output::table(&["file", "size", "lines", "pending"], rows));
    }
    lines.join("\n")
}

pub(super) fn check_text(check: &Check) -> String {
    let mut lines = Vec::new();
    for flawed in &check.damaged {
        let Damage { file, line, offset, length, reason } = &flawed.damage;
        let known = if flawed.set_aside { "; set aside by an earlier start" } else { "" };
        let reason = output::printable(&reason.to_string());
        lines.push(format!("{file}:{line}: {reason} (byte {offset}, {length} bytes{known})"));
    }
    if let Some(torn) = &check.torn {
        lines.push(format!(
            "{}:{}: torn: {} without a line end (byte {}); it was never acknowledged, and the next start truncates it",
            torn.file,
            torn.line,
            output::count(torn.bytes, "byte"),
            torn.offset
        ));
    }
    if check.unmatched > 0 {
        let completions = output::count(check.unmatched, "completion");
        lines.push(format!(
            "{completions} without a matching operation in these files: the files of these operations were removed{}",
            if check.damaged.is_empty() { "" } else { ", or their lines are damaged" }
        ));
    }
    lines.push(format!(
        "{}: {}, {}, {} pending: {}; {}",
        check.dir.display(),
        output::count(check.files as u64, "file"),
        output::count(check.lines, "line"),
        output::number(check.pending),
        match (check.damaged.len() as u64, check.sound) {
            (_, true) => "sound".to_owned(),
            (0, false) => "torn".to_owned(),
            (damaged, false) => output::count(damaged, "damaged line"),
        },
        usage_text(check.held_by.as_deref())
    ));
    lines.join("\n")
}

fn usage_text(holder: Option<&str>) -> String {
    holder.map_or_else(|| "not in use".to_owned(), |holder| format!("in use by {holder}"))
}

/// A size in bytes for display: `512 B`, `1.5 MiB`.
pub(in crate::cli) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = (bytes as f64, "B");
    for unit in units {
        if size.0 < 1024.0 {
            break;
        }
        size = (size.0 / 1024.0, unit);
    }
    if size.1 == "B" { format!("{bytes} B") } else { format!("{:.1} {}", size.0, size.1) }
}
