//! A disk that acknowledges a sync before it has done it.

use std::io;
use std::sync::Arc;

use chunk_sync_wal::disk::{Disk, DiskFile};

/// Its syncs do nothing.
#[derive(Debug)]
pub(super) struct NeverSyncs(pub(super) Arc<dyn Disk>);

impl Disk for NeverSyncs {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File(self.0.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File(self.0.open(name)?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn blocks(&self) -> bool {
        self.0.blocks()
    }
}

#[derive(Debug)]
struct File(Box<dyn DiskFile>);

impl DiskFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
