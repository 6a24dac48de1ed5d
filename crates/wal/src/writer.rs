//! Writes the log. Guarantees:
//!
//! - When [`Wal::append`] has returned, its operations survive any crash: it does one write and one sync for the whole
//!   batch, and syncs the directory if the batch created a file. A batch never spans two files.
//! - [`Wal::complete`] does not sync. A crash may lose the newest completions; their operations are then replayed,
//!   which is harmless because the work is repeatable. The next append, rotation or [`Wal::sync`] makes the completions
//!   durable.
//! - The time given with a write selects the file, but never one older than the newest: if the clock steps back, the
//!   newest file continues to be used.
//! - A write for which the disk has no space is cut off again, and the log remains usable: once operations have completed,
//!   [`Wal::reclaim`] frees space. Completions that do not fit are kept in memory only, like completions that a crash
//!   loses.
//! - After any other failed write or sync the content of the disk is unknown (a second sync may succeed without having written
//!   what the first one could not), so nothing is retried: the writer is poisoned. Writing continues only after the log
//!   is opened again, which reads the disk.
//! - Only the oldest file is ever removed, and its removal is durable before the next one: a file with completions is
//!   never removed before the file with the operations that they complete.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::WalError;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::hour::Hour;
use crate::line::{AGAIN, Completion, Encoder, Pending};
use crate::recovery::{Recovery, State, recover};

/// Options of a log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Maximum size of the log in bytes for [`Wal::append`]. Completions and notes of replays are written even beyond
    /// it; lines that are set aside do not count.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 8 << 30 }
    }
}

/// An open log. A directory can be open in one process, and only once, at a time.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    options: Options,
    files: BTreeMap<Hour, FileState>,
    /// The file in which each pending operation began.
    open: HashMap<Arc<str>, Hour>,
    /// The newest hour of any file, even if the file has been removed.
    newest: Option<Hour>,
    writing: Option<(Hour, Box<dyn DiskFile>)>,
    poisoned: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FileState {
    bytes: u64,
    /// Pending operations that began in the file.
    open: u64,
}

impl Wal {
    /// Opens and recovers the log in `dir`: creates the directory if it does not exist, locks it and finds the pending
    /// operations. The lock is held until both the log and its [`Replay`](crate::Replay) are dropped.
    ///
    /// # Errors
    /// [`WalError::Locked`] if another process or another open log holds the directory; [`WalError::Disk`] if the
    /// directory or a file cannot be created, read, truncated or synced.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), WalError> {
        Self::open_on(Arc::new(RealDisk::locked(dir)?), options)
    }

    /// Opens and recovers the log on a disk that has no other writer.
    ///
    /// # Errors
    /// [`WalError::Disk`] if a file or the directory cannot be read, truncated or synced.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovery), WalError> {
        crate::erase::finish(&*disk).map_err(WalError::disk("finish erasing in", "the directory of the log"))?;
        let (State { files, open }, recovery) = recover(&disk)?;
        let mut files: BTreeMap<_, _> =
            files.into_iter().map(|(hour, bytes)| (hour, FileState { bytes, open: 0 })).collect();
        for begun in &open {
            files.entry(begun.position.hour).or_default().open += 1;
        }
        let newest = files.last_key_value().map(|(hour, _)| *hour);
        let open = open.into_iter().map(|begun| (begun.operation_id, begun.position.hour)).collect();
        Ok((Self { disk, options, files, open, newest, writing: None, poisoned: None }, recovery))
    }

    /// Records operations before the caller begins them. When this returns, all of them are durable.
    ///
    /// # Errors
    /// - [`WalError::Full`], [`WalError::NoSpace`], [`WalError::TooLarge`] or [`WalError::NotAnObject`] if the batch does
    ///   not fit or an operation is not an object. Nothing was written, and the log remains usable.
    /// - [`WalError::Disk`] if a write or sync fails. The log is poisoned, and the operations may or may not be on the
    ///   disk.
    /// - [`WalError::Poisoned`] after an earlier failure.
    pub fn append(&mut self, batch: &[Pending<'_>], now: Timestamp) -> Result<(), WalError> {
        self.check_sound()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut lines = Encoder::new(now, batch.iter().map(|pending| pending.operation.len() + 160).sum());
        for pending in batch {
            lines.pending(pending)?;
        }
        let lines = lines.into_bytes();
        self.check_room(lines.len() as u64)?;
        let hour = self.write(&lines, now)?;
        self.sync()?;
        for pending in batch {
            if !self.open.contains_key(pending.operation_id) {
                self.open.insert(Arc::from(pending.operation_id), hour);
                self.files.entry(hour).or_default().open += 1;
            }
        }
        Ok(())
    }

    /// Notes that pending operations are about to be replayed; durable when this returns.
    /// [`Entry::replays`](crate::Entry) counts these notes when the log is opened later. Ids that are not pending are
    /// ignored. The notes are written even if the log is full, like completions and for the same reason: replay and
    /// completion are what frees space. On a full disk finished files are removed first; if the notes still do not fit,
    /// this replay is not counted.
    ///
    /// # Errors
    /// [`WalError::Disk`] if a write or sync fails, which poisons the log; [`WalError::TooLarge`] if an id does not fit
    /// into a line; [`WalError::Poisoned`] after an earlier failure.
    pub fn begin_again(&mut self, operation_ids: &[&str], now: Timestamp) -> Result<(), WalError> {
        self.check_sound()?;
        let mut lines = Encoder::new(now, operation_ids.len() * 160);
        let open = operation_ids.iter().filter(|id| self.open.contains_key(**id));
        for operation_id in open {
            lines.pending(&Pending::new(operation_id, AGAIN))?;
        }
        let lines = lines.into_bytes();
        if lines.is_empty() {
            return Ok(());
        }
        match self.write(&lines, now) {
            Err(WalError::NoSpace { .. }) => {}
            written => return written.and_then(|_| self.sync()),
        }
        self.reclaim()?;
        match self.write(&lines, now) {
            Err(WalError::NoSpace { .. }) => Ok(()),
            written => written.and_then(|_| self.sync()),
        }
    }

    /// Records that operations have ended; see the module's documentation for when this is durable. Operations that are
    /// not pending are ignored.
    ///
    /// # Errors
    /// [`WalError::Disk`] if the write fails, which poisons the log; [`WalError::TooLarge`] if an error text does not
    /// fit into a line; [`WalError::Poisoned`] after an earlier failure.
    pub fn complete(&mut self, batch: &[Completion<'_>], now: Timestamp) -> Result<(), WalError> {
        self.check_sound()?;
        let mut lines = Encoder::new(now, batch.len() * 160);
        let pending = |completion: &&Completion<'_>| self.open.contains_key(completion.operation_id);
        let batch: Vec<_> = batch.iter().filter(pending).collect();
        if batch.is_empty() {
            return Ok(());
        }
        for completion in &batch {
            lines.completion(completion)?;
        }
        match self.write(&lines.into_bytes(), now) {
            // A start after a crash repeats these operations. Refusing would keep the files that have to make room.
            Ok(_) | Err(WalError::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        for completion in batch {
            let began = self.open.remove(completion.operation_id);
            if let Some(file) = began.and_then(|hour| self.files.get_mut(&hour)) {
                file.open -= 1;
            }
        }
        Ok(())
    }

    /// Makes all lines written so far durable. After an orderly shutdown that calls this, completed operations are not
    /// replayed.
    ///
    /// # Errors
    /// [`WalError::Disk`] if the sync fails, which poisons the log; [`WalError::Poisoned`] after an earlier failure.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_sound()?;
        let Some((hour, file)) = &mut self.writing else {
            return Ok(());
        };
        let synced = file.sync().map_err(WalError::disk("sync", hour.file()));
        self.poison_unless(synced)
    }

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

    /// Bytes in all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// The number of pending operations.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    fn check_sound(&self) -> Result<(), WalError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(WalError::Poisoned { cause: cause.clone() }),
        }
    }

    fn check_room(&self, needed: u64) -> Result<(), WalError> {
        let (used, max) = (self.bytes(), self.options.max_bytes);
        if needed > max {
            return Err(WalError::TooLarge { needed, max });
        }
        if used.saturating_add(needed) > max {
            return Err(WalError::Full { used, needed, max });
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8], now: Timestamp) -> Result<Hour, WalError> {
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

    fn remove(&mut self, hour: Hour) -> Result<String, WalError> {
        let name = hour.file();
        // A file that could not be removed still exists unchanged, so this failure does not poison the log.
        self.disk.remove(&name).map_err(WalError::disk("remove", &*name))?;
        self.files.remove(&hour);
        self.writing.take_if(|(writing, _)| *writing == hour);
        let synced = self.disk.sync_dir().map_err(WalError::disk("sync the directory of", &*name));
        self.poison_unless(synced)?;
        Ok(name)
    }

    fn poison_unless<T>(&mut self, outcome: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &outcome {
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            self.poisoned = Some(format!("{error}{}", source.unwrap_or_default()));
        }
        outcome
    }
}
