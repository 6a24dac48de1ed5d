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

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::WalError;
use crate::disk::{Disk, DiskFile, RealDisk};
use crate::hour::Hour;
use crate::line::{AGAIN, Completion, Encoder, Pending};
use crate::recovery::{Recovery, State, recover};

mod files;

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
///
/// ```
/// use chunk_sync_wal::{Completion, Options, Outcome, Pending, Wal};
/// use jiff::Timestamp;
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let (mut log, _) = Wal::open(dir, Options::default())?;
/// let operations = [Pending::new("a-1", r#"{"do":"a"}"#), Pending::new("b-1", r#"{"do":"b"}"#)];
/// let now: Timestamp = "2026-11-23T04:15:00Z".parse()?;
/// log.append(&operations, now)?;
/// log.complete(&[Completion { operation_id: "a-1", outcome: Outcome::Complete }], now)?;
/// drop(log); // as a crash would
///
/// let (_log, recovery) = Wal::open(dir, Options::default())?;
/// let pending = recovery.pending.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(pending.len(), 1);
/// assert_eq!((&*pending[0].operation_id, &*pending[0].operation), ("b-1", r#"{"do":"b"}"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Records operations before the caller begins them. When this returns, all of them are durable. `{}` is no operation:
    /// it marks a replay.
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

    fn poison_unless<T>(&mut self, outcome: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &outcome {
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            self.poisoned = Some(format!("{error}{}", source.unwrap_or_default()));
        }
        outcome
    }
}
