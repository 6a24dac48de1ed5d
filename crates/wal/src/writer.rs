//! Writes the log, and says what is durable when.
//!
//! - When [`Wal::append`] has returned, its operations survive any crash: one write and one sync for the whole batch, and
//!   a sync of the directory when the batch began a file. One batch never spans two files.
//! - [`Wal::complete`] does not sync. A crash may lose the newest completions, and their operations are replayed, which
//!   is harmless since replay is repeatable; the next append, rotation or [`Wal::sync`] makes them durable too.
//! - The instant given with a write chooses its file, but never one older than the newest: when the clock steps back, the
//!   newest file is used on.
//! - After a failed write or sync nobody knows what is on the disk (a second sync may well succeed without having written
//!   what the first could not), so nothing is tried again: the writer is poisoned, and only opening the log anew, which
//!   reads what is really there, goes on.
//! - Only the oldest file is ever removed, durably, before the next: a file of completions never goes before the file
//!   of the operations that they complete.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::WalError;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::hour::Hour;
use crate::line::{AGAIN, Completion, Encoder, Pending};
use crate::recovery::{Recovery, State, recover};

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most bytes that appending may take the log to; completions are written in any case, and what is set aside is
    /// not counted.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 8 << 30 }
    }
}

/// An open log. One at a time holds a directory.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    options: Options,
    files: BTreeMap<Hour, FileState>,
    /// In which file each pending operation began.
    open: HashMap<Arc<str>, Hour>,
    /// The newest hour there ever was, also when its file is gone.
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
    /// Opens the log in `dir`, creating the directory if need be and locking it, and finds out what is pending. The lock
    /// is held as long as the log or its [`Replay`](crate::Replay) lives.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), WalError> {
        Self::open_on(Arc::new(RealDisk::locked(dir)?), options)
    }

    /// Opens the log on a disk which nobody else writes.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovery), WalError> {
        let (State { files, open }, recovery) = recover(&disk)?;
        let mut files: BTreeMap<_, _> =
            files.into_iter().map(|(hour, bytes)| (hour, FileState { bytes, open: 0 })).collect();
        for begun in &open {
            files.entry(begun.place.hour).or_default().open += 1;
        }
        let newest = files.last_key_value().map(|(hour, _)| *hour);
        let open = open.into_iter().map(|begun| (begun.operation_id, begun.place.hour)).collect();
        Ok((Self { disk, options, files, open, newest, writing: None, poisoned: None }, recovery))
    }

    /// Records operations that are about to begin. When this returns they are durable, all of them; when it fails with
    /// [`WalError::Full`], [`WalError::TooLarge`] or [`WalError::NotAnObject`] nothing was written, and the log goes on.
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

    /// Records that operations which are pending are about to be done again; durable when this returns. Whoever opens the
    /// log later is told how often that was. Written also where the log is full, as completions are, and for the same
    /// reason: they are what makes room.
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
        self.write(&lines, now)?;
        self.sync()
    }

    /// Records that operations have ended; see above for when that is durable. An operation that is not pending is passed
    /// over.
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
        self.write(&lines.into_bytes(), now)?;
        for completion in batch {
            let began = self.open.remove(completion.operation_id);
            if let Some(file) = began.and_then(|hour| self.files.get_mut(&hour)) {
                file.open -= 1;
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable: for an orderly end, after which nothing is replayed.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_sound()?;
        let Some((hour, file)) = &mut self.writing else {
            return Ok(());
        };
        let synced = file.sync().map_err(WalError::disk("sync", hour.file()));
        self.poison_unless(synced)
    }

    /// Removes the oldest files as long as their operations are all complete and their hour ended at least `keep` before
    /// `now`, but never the newest. Answers their names.
    pub fn retire(&mut self, now: Timestamp, keep: Duration) -> Result<Vec<String>, WalError> {
        let newest = self.newest;
        self.remove_while(|hour| Some(hour) != newest && hour.ended_before(now, keep))
    }

    /// Removes the oldest files as long as their operations are all complete, whatever their age, and the newest too if
    /// nothing is pending at all: the way out of [`WalError::Full`], which waiting for the hour to end would not be.
    /// Answers their names.
    pub fn reclaim(&mut self) -> Result<Vec<String>, WalError> {
        self.remove_while(|_| true)
    }

    /// Bytes in all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    /// Operations that have begun and not ended.
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
        let written = self.write_to(hour, lines);
        self.poison_unless(written)?;
        self.files.entry(hour).or_default().bytes += lines.len() as u64;
        Ok(hour)
    }

    fn write_to(&mut self, hour: Hour, lines: &[u8]) -> Result<(), WalError> {
        let mut file = match self.writing.take() {
            Some((current, file)) if current == hour => file,
            last => self.turn(last, hour)?,
        };
        let written = file.append(lines).map_err(WalError::disk("write", hour.file()));
        self.writing = Some((hour, file));
        written
    }

    /// From the last file to that of `hour`. The last is made durable first, so that only the newest can ever be torn.
    fn turn(&mut self, last: Option<(Hour, Box<dyn DiskFile>)>, hour: Hour) -> Result<Box<dyn DiskFile>, WalError> {
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
        // A file that cannot be removed is still there and still whole, so this alone poisons nothing.
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
