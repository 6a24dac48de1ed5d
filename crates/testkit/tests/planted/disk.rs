//! A disk that breaks a promise, or hides that another one did.

use std::io;
use std::sync::Arc;

use chunk_sync_wal::disk::{Disk, DiskFile};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flaw {
    /// Syncs do nothing.
    NeverSyncs,
    /// Each line is read with the checksum of what it holds now, so the log never notices damage.
    Reseals,
}

#[derive(Debug)]
pub(super) struct Flawed(pub(super) Arc<dyn Disk>, pub(super) Flaw);

impl Disk for Flawed {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File(self.0.create(name)?, self.1)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File(self.0.open(name)?, self.1)))
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
struct File(Box<dyn DiskFile>, Flaw);

impl File {
    /// All bytes, each line with its checksum.
    fn resealed(&self) -> io::Result<Vec<u8>> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
        while let read @ 1.. = self.0.read_at(bytes.len() as u64, &mut buffer)? {
            bytes.extend_from_slice(&buffer[..read]);
        }
        bytes.split_mut(|byte| *byte == b'\n').for_each(reseal);
        Ok(bytes)
    }
}

/// Replaces the eight digits of the checksum at the end of a line.
fn reseal(line: &mut [u8]) {
    let key = br#","crc32c":""#;
    let Some(end) = line.len().checked_sub(key.len() + 10) else { return };
    if line[end..].starts_with(key) {
        let digits = format!("{:08x}", crc32c(&line[..end]));
        line[end + key.len()..][..8].copy_from_slice(digits.as_bytes());
    }
}

/// The Castagnoli checksum, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

impl DiskFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1 != Flaw::Reseals {
            return self.0.read_at(offset, buffer);
        }
        let bytes = self.resealed()?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.1 == Flaw::NeverSyncs { Ok(()) } else { self.0.sync() }
    }
}
