//! The disk of the log, observed: what a sync has acknowledged is in the log, even if the bus loses it.

use std::io;
use std::sync::Arc;

use chunk_sync_wal::disk::{Disk, DiskFile};
use serde_json::Value;
use uuid::Uuid;

use super::oracle::Oracle;

/// A disk that reports to the oracle which operations are synced.
pub(super) struct WatchedDisk {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) oracle: Arc<Oracle>,
}

impl std::fmt::Debug for WatchedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl WatchedDisk {
    /// Damaged lines that are set aside are copied with their bytes, which may still look like an operation.
    fn watch(&self, name: &str, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if name.ends_with(".damaged") {
            return file;
        }
        Box::new(WatchedFile { file, unsynced: Vec::new(), oracle: Arc::clone(&self.oracle) })
    }
}

impl Disk for WatchedDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.watch(name, self.disk.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.watch(name, self.disk.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn blocks(&self) -> bool {
        self.disk.blocks()
    }
}

struct WatchedFile {
    file: Box<dyn DiskFile>,
    unsynced: Vec<u8>,
    oracle: Arc<Oracle>,
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.unsynced.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        let lines = std::mem::take(&mut self.unsynced);
        let begun = lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let line: Value = serde_json::from_slice(line).ok()?;
            line["operation"]["event_id"].as_str()?.parse::<Uuid>().ok()
        });
        self.oracle.known().logged.extend(begun);
        Ok(())
    }
}
