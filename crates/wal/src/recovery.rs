//! Recovers the log when it is opened: finds the pending operations and repairs what a crash may leave.
//!
//! - The newest file may end in a torn line. It was never acknowledged, so it is cut off and reported.
//! - Any other line that does not parse was damaged later. It is reported with file and line and set aside (see
//!   `set_aside.rs`); the lines around it are used. Nothing is guessed: if the line end between two lines is damaged,
//!   both lines are lost to the log, and both are in the copy that is set aside.
//! - The newest file is synced, so that the operations returned as pending are durable, even if the last writer crashed
//!   before its sync completed.
//!
//! Only the places of pending lines are kept in memory; [`Replay`] reads each operation on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::WalError;
use crate::disk::{Disk, DiskFile, ReadFrom, RealDisk};
use crate::hour::Hour;
use crate::index::{Begun, Index};
use crate::line::{self, Origin};
use crate::scan::{Damage, Scan, Torn, scan};
use crate::set_aside::{SetAside, name_for};

/// What recovery found in the log.
#[derive(Debug)]
pub struct Recovery {
    /// The pending operations, which the caller must do again.
    pub pending: Replay,
    /// The torn last line, if there was one. It is cut off.
    pub torn: Option<Torn>,
    /// Damaged lines that no earlier start reported. They are set aside.
    pub damaged: Vec<Damage>,
    /// Lines read, including damaged ones.
    pub lines: u64,
    /// Files read.
    pub files: usize,
}

/// A pending operation, to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id of the operation.
    pub operation_id: String,
    /// One JSON object, as it was appended.
    pub operation: String,
    /// The entry and the epoch of the bus that it was read from, if the line states them.
    pub origin: Option<Origin<'static>>,
    /// How often a start has replayed it, as noted by [`Wal::begin_again`](crate::Wal::begin_again).
    pub replays: u32,
}

/// Iterates over the pending operations in the order of the log and reads each from the disk on demand. To take a batch
/// use `by_ref().take(n)`. Read an operation before completing it: afterwards its file may be removed.
///
/// An item is [`WalError::Disk`] if the file cannot be read, [`WalError::Changed`] if the line is not the one that
/// recovery read.
#[derive(Debug)]
pub struct Replay {
    disk: Arc<dyn Disk>,
    rest: VecDeque<Begun>,
    file: Option<(Hour, Box<dyn DiskFile>)>,
}

/// The state from which the writer continues.
#[derive(Debug)]
pub(crate) struct State {
    /// The length of each file in bytes.
    pub(crate) files: BTreeMap<Hour, u64>,
    /// The pending operations in the order of the log.
    pub(crate) open: Vec<Begun>,
}

pub(crate) fn recover(disk: &Arc<dyn Disk>) -> Result<(State, Recovery), WalError> {
    let mut files = log_files(&**disk).map_err(WalError::disk("list", "the directory of the log"))?;
    let newest = files.last_key_value().map(|(hour, _)| *hour);
    let mut index = Index::default();
    let (mut torn, mut damaged, mut lines) = (None, Vec::new(), 0);
    for (hour, length) in &mut files {
        let newest = Some(*hour) == newest;
        let found = recover_file(&**disk, *hour, newest, &mut index)?;
        lines += found.lines;
        damaged.extend(found.damaged.into_iter().map(|(damage, _)| damage));
        if let Some(tail) = found.torn {
            *length = tail.offset;
            torn = Some(tail);
        }
    }
    disk.sync_dir().map_err(WalError::disk("sync", "the directory of the log"))?;
    let open = index.into_order();
    let pending = Replay { disk: Arc::clone(disk), rest: open.iter().cloned().collect(), file: None };
    let recovery = Recovery { pending, torn, damaged, lines, files: files.len() };
    Ok((State { files, open }, recovery))
}

/// Reads the pending operations of the log in `dir`. Nothing is repaired or written, and a service may write to the log
/// at the same time.
///
/// # Errors
/// [`WalError::Disk`] if the directory or a file cannot be read.
pub fn pending(dir: &Path) -> Result<Replay, WalError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::read_only(dir));
    let files = log_files(&*disk).map_err(WalError::disk("list", dir.display().to_string()))?;
    let newest = files.last_key_value().map(|(hour, _)| *hour);
    let mut index = Index::default();
    for hour in files.into_keys() {
        let scanned = disk.open(&hour.file()).and_then(|file| scan(&*file, hour, Some(hour) == newest, &mut index));
        match scanned {
            Ok(_) => {}
            // This file and all before it were removed after the list was made, so the operations in them have ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => index = Index::default(),
            Err(error) => return Err(WalError::disk("read", hour.file())(error)),
        }
    }
    Ok(Replay { disk, rest: index.into_order().into(), file: None })
}

/// The files of the log with their lengths in bytes, oldest first. Other files in the directory are ignored.
pub(crate) fn log_files(disk: &dyn Disk) -> io::Result<BTreeMap<Hour, u64>> {
    Ok(disk.list()?.into_iter().filter_map(|(name, length)| Some((Hour::of_file(&name)?, length))).collect())
}

/// Recovers one file. The result contains only the damaged lines that were not set aside before.
fn recover_file(disk: &dyn Disk, hour: Hour, newest: bool, index: &mut Index) -> Result<Scan, WalError> {
    let name = hour.file();
    let mut file = disk.open(&name).map_err(WalError::disk("open", &*name))?;
    let mut found = scan(&*file, hour, newest, index).map_err(WalError::disk("read", &*name))?;
    if !found.damaged.is_empty() {
        let on_set_aside = |action| WalError::disk(action, name_for(&name));
        let set_aside = SetAside::of(disk, &name).map_err(on_set_aside("read"))?;
        found.damaged.retain(|(_, mark)| !set_aside.contains(*mark));
        let fresh: Vec<_> = found.damaged.iter().map(|(damage, _)| damage.clone()).collect();
        if !fresh.is_empty() {
            set_aside.add(disk, &name, &*file, &fresh).map_err(on_set_aside("write"))?;
        }
    }
    if let Some(torn) = &found.torn {
        file.truncate(torn.offset).map_err(WalError::disk("truncate", &*name))?;
    }
    if newest {
        file.sync().map_err(WalError::disk("sync", &*name))?;
    }
    Ok(found)
}

impl Replay {
    fn read(&mut self, begun: &Begun) -> Result<Entry, WalError> {
        let Begun { operation_id, position, replays } = begun;
        let name = position.hour.file();
        let file = match self.file.take() {
            Some((hour, file)) if hour == position.hour => file,
            _ => self.disk.open(&name).map_err(WalError::disk("open", &*name))?,
        };
        let mut bytes = Vec::with_capacity(position.length);
        ReadFrom { file: &*file, offset: position.offset }
            .take(position.length as u64)
            .read_to_end(&mut bytes)
            .map_err(WalError::disk("read", &*name))?;
        self.file = Some((position.hour, file));
        let operation = match line::parse(&bytes) {
            Ok(line) if *line.operation_id == **operation_id => {
                let origin = line.origin.map(Origin::into_owned);
                line.operation.map(|operation| (operation.to_owned(), origin))
            }
            _ => None,
        };
        let operation_id = operation_id.to_string();
        match operation {
            Some((operation, origin)) => Ok(Entry { operation_id, operation, origin, replays: *replays }),
            None => Err(WalError::Changed { file: name, offset: position.offset, operation_id }),
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Entry, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let begun = self.rest.pop_front()?;
        Some(self.read(&begun))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len(), Some(self.rest.len()))
    }
}

impl ExactSizeIterator for Replay {}
