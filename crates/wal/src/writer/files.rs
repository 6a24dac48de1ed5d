//! The files of the log: room for the next lines, a new file every hour, removal of finished ones.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{FileState, Wal};
use crate::WalError;
use crate::disk::DiskFile;
use crate::hour::Hour;

impl Wal {
    /// Removes the oldest files, from the oldest on, while all their operations are complete and their hour ended at
    /// least `keep` before `now`. Never removes the newest file. Returns the names of the removed files.
    ///
    /// # Errors
    /// [`WalError::Disk`] if a file cannot be removed, or if the sync of the directory fails, which poisons the log;
    /// [`WalError::Poisoned`] after an earlier failure.
    pub fn retire(&mut self, now: Timestamp, keep: Duration) -> Result<Vec<String>, WalError> {
        let newest = self.newest;
        self.remove_while(|hour| Some(hour) != newest && hour.ended_before(now, keep))
    }

    /// Removes the oldest files, from the oldest on, while all their operations are complete, regardless of their age;
    /// also the newest one if nothing is pending. This resolves [`WalError::Full`] without waiting for the hour to end.
    /// Returns the names of the removed files.
    ///
    /// # Errors
    /// As [`Self::retire`].
    pub fn reclaim(&mut self) -> Result<Vec<String>, WalError> {
        self.remove_while(|_| true)
    }

    /// Erases the ended operations that `erases` selects by their content: their lines keep id and time. Returns the
    /// number of erased operations, and of selected ones that have not ended and stay. See `erase.rs` for crashes.
    ///
    /// # Errors
    /// [`WalError::Disk`] if a file cannot be read, written or renamed, which poisons the log: the next opening finishes
    /// what was begun. [`WalError::Poisoned`] after an earlier failure.
    pub fn erase(&mut self, erases: &dyn Fn(&str) -> bool) -> Result<(u64, u64), WalError> {
        self.sync()?;
        self.writing = None;
        let (mut erased, pending) = (HashMap::new(), RefCell::new(HashSet::new()));
        let hours: Vec<Hour> = self.files.keys().copied().collect();
        for hour in hours {
            let open = &self.open;
            let selects = |id: &str, operation: &str| {
                let selected = operation != crate::line::AGAIN && erases(operation);
                let ended = !open.contains_key(id);
                if selected && !ended {
                    pending.borrow_mut().insert(id.to_owned());
                }
                selected && ended
            };
            let rewritten = crate::erase::rewrite(&*self.disk, hour, &selects, &mut erased);
            if let Some(bytes) = self.poison_unless(rewritten)? {
                self.files.entry(hour).or_default().bytes = bytes;
            }
        }
        Ok((erased.values().filter(|now| **now).count() as u64, pending.into_inner().len() as u64))
    }

    pub(super) fn check_room(&self, needed: u64) -> Result<(), WalError> {
        let (used, max) = (self.bytes(), self.options.max_bytes);
        if needed > max {
            return Err(WalError::TooLarge { needed, max });
        }
        if used.saturating_add(needed) > max {
            return Err(WalError::Full { used, needed, max });
        }
        Ok(())
    }

    pub(super) fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<Hour, WalError> {
        let hour = self.newest.map_or(Hour::of(now), |newest| newest.max(Hour::of(now)));
        let written = match self.write_to(hour, lines) {
            Err(error) if error.is_no_space() => return Err(self.cut_back(hour, lines.len() as u64)),
            written => written,
        };
        self.poison_unless(written)?;
        self.files.entry(hour).or_default().bytes += lines.len() as u64;
        Ok(hour)
    }

    fn write_to(&mut self, hour: Hour, lines: &[u8]) -> Result<(), WalError> {
        let mut file = match self.writing.take() {
            Some((current, file)) if current == hour => file,
            last => self.rotate(last, hour)?,
        };
        let written = file.append(lines).map_err(WalError::disk("write", hour.file()));
        self.writing = Some((hour, file));
        written
    }

    /// Removes what a write without space left at the end of the file. If the file could not be created, nothing was
    /// written.
    fn cut_back(&mut self, hour: Hour, needed: u64) -> WalError {
        let length = self.files.get(&hour).map_or(0, |file| file.bytes);
        let cut = match &mut self.writing {
            Some((writing, file)) if *writing == hour => file.truncate(length),
            _ => Ok(()),
        };
        match self.poison_unless(cut.map_err(WalError::disk("truncate", hour.file()))) {
            Ok(()) => WalError::NoSpace { needed },
            Err(error) => error,
        }
    }

    /// Switches from the last file to that of `hour`. The last file is synced first, so that only the newest can be
    /// torn.
    fn rotate(&mut self, last: Option<(Hour, Box<dyn DiskFile>)>, hour: Hour) -> Result<Box<dyn DiskFile>, WalError> {
        if let Some((last, mut file)) = last {
            file.sync().map_err(WalError::disk("sync", last.file()))?;
        }
        let name = hour.file();
        if self.files.contains_key(&hour) {
            return self.disk.open(&name).map_err(WalError::disk("open", name));
        }
        let file = self.disk.create(&name).map_err(WalError::disk("create", &*name))?;
        self.disk.sync_dir().map_err(WalError::disk("sync the directory of", name))?;
        self.files.insert(hour, FileState::default());
        self.newest = Some(hour);
        Ok(file)
    }

    fn remove_while(&mut self, may_go: impl Fn(Hour) -> bool) -> Result<Vec<String>, WalError> {
        self.check_sound()?;
        let mut removed = Vec::new();
        while let Some((hour, file)) = self.files.first_key_value()
            && file.open == 0
            && may_go(*hour)
        {
            let hour = *hour;
            removed.push(self.remove(hour)?);
        }
        Ok(removed)
    }

    pub(super) fn remove(&mut self, hour: Hour) -> Result<String, WalError> {
        let name = hour.file();
        // A file that could not be removed still exists unchanged, so this failure does not poison the log.
        self.disk.remove(&name).map_err(WalError::disk("remove", &*name))?;
        self.files.remove(&hour);
        self.writing.take_if(|(writing, _)| *writing == hour);
        let synced = self.disk.sync_dir().map_err(WalError::disk("sync the directory of", &*name));
        self.poison_unless(synced)?;
        Ok(name)
    }
}
