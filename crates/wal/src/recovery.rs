//! Finds out, when the log is opened, what is pending, and mends what a crash may leave.
//!
//! - The newest file may end in a torn line: it was never acknowledged, so it is cut off, and said.
//! - Any other line that cannot be believed was damaged later. It is reported with file and line and set aside (see
//!   `set_aside.rs`); the lines around it are good. Nothing is guessed: of two lines that run together because the line
//!   end between them is damaged, both are lost to the log, and both are in what is set aside.
//! - The newest file is synced, so that what is handed out as pending is durable even if the sync that the last writer
//!   asked for never came about.
//!
//! Only the places of pending lines are held; [`Replay`] reads the operations when they are asked for.

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
use crate::set_aside::{Aside, name_for};

/// What the log held when it was opened.
#[derive(Debug)]
pub struct Recovery {
    /// The operations to be done again.
    pub pending: Replay,
    /// The torn last line, if there was one. It is gone now.
    pub torn: Option<Torn>,
    /// Damaged lines that were not reported before. They are set aside now.
    pub damaged: Vec<Damage>,
    /// Lines read, good or not.
    pub lines: u64,
    /// Files read.
    pub files: usize,
}

/// An operation to be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it was appended.
    pub operation_id: String,
    /// One JSON object, as it was appended.
    pub operation: String,
    /// Where it was read, if the line says so.
    pub origin: Option<Origin<'static>>,
    /// How often a start has begun to do it again, as [`Wal::begin_again`](crate::Wal::begin_again) noted.
    pub replays: u32,
}

/// The pending operations in the order of the log, each read from the disk when it is asked for; take a batch with
/// `by_ref().take(n)`. Read an operation before completing it: afterwards its file may be removed.
#[derive(Debug)]
pub struct Replay {
    disk: Arc<dyn Disk>,
    rest: VecDeque<Begun>,
    file: Option<(Hour, Box<dyn DiskFile>)>,
}

/// What the writer goes on from.
#[derive(Debug)]
pub(crate) struct State {
    /// Length of every file.
    pub(crate) files: BTreeMap<Hour, u64>,
    /// Pending operations in order.
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

/// What is pending in the log in `dir`, for looking only; nothing is mended, and a service may be writing meanwhile.
pub fn pending(dir: &Path) -> Result<Replay, WalError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::read_only(dir));
    let files = log_files(&*disk).map_err(WalError::disk("list", dir.display().to_string()))?;
    let newest = files.last_key_value().map(|(hour, _)| *hour);
    let mut index = Index::default();
    for hour in files.into_keys() {
        let scanned = disk.open(&hour.file()).and_then(|file| scan(&*file, hour, Some(hour) == newest, &mut index));
        match scanned {
            Ok(_) => {}
            // Retired since the list was made, and all before it: what began there has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => index = Index::default(),
            Err(error) => return Err(WalError::disk("read", hour.file())(error)),
        }
    }
    Ok(Replay { disk, rest: index.into_order().into(), file: None })
}

/// The files of the log with their lengths, oldest first. Whatever else lies in the directory is none of its business.
pub(crate) fn log_files(disk: &dyn Disk) -> io::Result<BTreeMap<Hour, u64>> {
    Ok(disk.list()?.into_iter().filter_map(|(name, length)| Some((Hour::of_file(&name)?, length))).collect())
}

/// Reads and mends one file. Of what is damaged, only what was not known remains in the answer.
fn recover_file(disk: &dyn Disk, hour: Hour, newest: bool, index: &mut Index) -> Result<Scan, WalError> {
    let name = hour.file();
    let mut file = disk.open(&name).map_err(WalError::disk("open", &*name))?;
    let mut found = scan(&*file, hour, newest, index).map_err(WalError::disk("read", &*name))?;
    if !found.damaged.is_empty() {
        let on_aside = |action| WalError::disk(action, name_for(&name));
        let aside = Aside::of(disk, &name).map_err(on_aside("read"))?;
        found.damaged.retain(|(_, mark)| !aside.knows(*mark));
        let fresh: Vec<_> = found.damaged.iter().map(|(damage, _)| damage.clone()).collect();
        if !fresh.is_empty() {
            aside.add(disk, &name, &*file, &fresh).map_err(on_aside("write"))?;
        }
    }
    if let Some(torn) = &found.torn {
        file.truncate(torn.offset).map_err(WalError::disk("cut", &*name))?;
    }
    if newest {
        file.sync().map_err(WalError::disk("sync", &*name))?;
    }
    Ok(found)
}

impl Replay {
    fn read(&mut self, begun: &Begun) -> Result<Entry, WalError> {
        let Begun { operation_id, place, replays } = begun;
        let name = place.hour.file();
        let file = match self.file.take() {
            Some((hour, file)) if hour == place.hour => file,
            _ => self.disk.open(&name).map_err(WalError::disk("open", &*name))?,
        };
        let mut bytes = Vec::with_capacity(place.length);
        ReadFrom { file: &*file, offset: place.offset }
            .take(place.length as u64)
            .read_to_end(&mut bytes)
            .map_err(WalError::disk("read", &*name))?;
        self.file = Some((place.hour, file));
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
            None => Err(WalError::Changed { file: name, offset: place.offset, operation_id }),
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
