//! Files whose hour lies in the future. A clock that was ahead for a moment leaves such a file, and because writing never
//! goes back to an older file, all later lines would go into it: it would grow without bound and never be removed.
//!
//! Before the log is opened, each such file gets the next hour that is free after the files before it. So the order of
//! the files stays, and the clock reaches their hours soon. Renaming is repeated after a crash: a file that has its name
//! already keeps it.

use jiff::Timestamp;

use crate::WalError;
use crate::disk::Disk;
use crate::hour::Hour;
use crate::recovery::log_files;

/// A file that was renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name with the hour in the future.
    pub from: String,
    /// The new name.
    pub to: String,
}

/// Renames the files whose hour begins more than one hour after `now`. The caller holds the directory and has not opened
/// the log yet.
///
/// # Errors
/// [`WalError::Disk`] if the directory cannot be read or a file cannot be renamed.
pub fn rename_future_files(disk: &dyn Disk, now: Timestamp) -> Result<Vec<Renamed>, WalError> {
    let files = log_files(disk).map_err(WalError::disk("list", "the directory of the log"))?;
    let latest = Hour::of(now).next();
    let mut last = files.keys().copied().rfind(|hour| *hour <= latest);
    let mut renamed = Vec::new();
    for hour in files.into_keys().filter(|hour| *hour > latest) {
        let free = last.map_or_else(|| Hour::of(now), Hour::next);
        last = Some(free);
        if free < hour {
            let file = Renamed { from: hour.file(), to: free.file() };
            disk.rename(&file.from, &file.to).map_err(WalError::disk("rename", &*file.from))?;
            renamed.push(file);
        }
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::CrashDisk;

    fn names(disk: &CrashDisk) -> Vec<String> {
        let mut names: Vec<_> = disk.list().unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn files_of_the_future_follow_the_others_in_their_order() {
        let disk = CrashDisk::default();
        for hour in ["20261123_04", "20270101_00", "20990101_00"] {
            disk.create(&format!("wal_{hour}.jsonl")).unwrap();
        }
        let now = "2026-11-23T04:15:00Z".parse().unwrap();
        let renamed = rename_future_files(&disk, now).unwrap();
        assert_eq!(renamed.len(), 2);
        assert_eq!(names(&disk), ["wal_20261123_04.jsonl", "wal_20261123_05.jsonl", "wal_20261123_06.jsonl"]);
        assert_eq!(rename_future_files(&disk, now).unwrap(), [], "the second start renames nothing");
    }

    #[test]
    fn a_file_of_the_next_hour_keeps_its_name() {
        let disk = CrashDisk::default();
        disk.create("wal_20261123_05.jsonl").unwrap();
        assert_eq!(rename_future_files(&disk, "2026-11-23T04:59:00Z".parse().unwrap()).unwrap(), []);
        assert_eq!(rename_future_files(&disk, "2026-11-23T03:59:00Z".parse().unwrap()).unwrap().len(), 1);
        assert_eq!(names(&disk), ["wal_20261123_03.jsonl"]);
    }
}
