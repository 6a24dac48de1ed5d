//! A disk in memory that crashes at any byte and fails on demand, for tests of the log and of the code that uses it.
//!
//! It guarantees no more than [`Disk`] does. After a crash each file contains what was synced, plus any prefix of what
//! was written since. Each creation and removal that was not followed by a sync of the directory survives or not,
//! independently of the others. Sectors that reach the disk out of order are not modelled. The module is always
//! compiled and adds no dependency, so that no test depends on an enabled feature.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// A line of the log: `body`, which begins with `{`, and its checksum.
#[must_use]
pub fn sealed(body: &[u8]) -> Vec<u8> {
    [body, crate::line::seal(body).as_bytes()].concat()
}

/// The disk. Clones share its state.
#[derive(Debug, Clone, Default)]
pub struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    /// Names as a running process sees them, each with its index in `contents`.
    names: BTreeMap<String, usize>,
    /// Names as of the last sync of the directory.
    synced_names: BTreeMap<String, usize>,
    /// The work left before the power fails; `None` if it does not fail.
    power: Option<u64>,
    fail_append_after: Option<usize>,
    fail_sync: bool,
    /// The bytes that all files together may have; `None` for no bound.
    capacity: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

impl CrashDisk {
    /// Makes the power fail after `work` units: each appended byte is one unit, as is each other change or sync. The
    /// append that exceeds the limit is done in part; from then on all calls fail.
    pub fn power_off_after(&self, work: u64) {
        self.state().power = Some(work);
    }

    /// Makes the next append write only `bytes` bytes and fail.
    pub fn fail_next_append_after(&self, bytes: usize) {
        self.state().fail_append_after = Some(bytes);
    }

    /// Makes the disk as large as `bytes`; an append that does not fit writes what fits and fails for lack of space.
    pub fn set_capacity(&self, bytes: usize) {
        self.state().capacity = Some(bytes);
    }

    /// Makes the next sync of a file or of the directory fail without effect.
    pub fn fail_next_sync(&self) {
        self.state().fail_sync = true;
    }

    /// Crashes now and returns the disk as found after the crash. `choose(n)` returns a number from 0 to `n` that
    /// determines how much of the unsynced data survives. All later calls on this disk fail.
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut state = self.state();
        state.power = Some(0);
        let both: BTreeSet<_> = state.names.keys().chain(state.synced_names.keys()).cloned().collect();
        let mut after = State::default();
        for name in both {
            let (now, before) = (state.names.get(&name), state.synced_names.get(&name));
            let survivor = if now == before || choose(1) == 1 { now } else { before };
            if let Some(position) = survivor {
                let left = state.contents[*position].after_crash(choose);
                after.names.insert(name, after.contents.len());
                after.contents.push(Content { written: left.clone(), synced: left });
            }
        }
        after.synced_names = after.names.clone();
        Self(Arc::new(Mutex::new(after)))
    }

    /// Flips one to four bits of one synced line, as an ageing disk does. `choose(n)` returns a number from 0 to `n`; `may`
    /// decides whether the line that was chosen may be damaged. Returns the number of bits.
    pub fn flip(&self, choose: &mut dyn FnMut(usize) -> usize, may: &dyn Fn(&[u8]) -> bool) -> u64 {
        let mut state = self.state();
        let used: Vec<usize> = state.synced_names.values().copied().collect();
        let Some(last) = used.len().checked_sub(1) else { return 0 };
        let content = &mut state.contents[used[choose(last)]];
        if content.synced.is_empty() || content.written != content.synced {
            return 0;
        }
        let place = choose(content.synced.len() - 1);
        let begin = content.synced[..place].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end =
            content.synced[begin..].iter().position(|byte| *byte == b'\n').map_or(content.synced.len(), |n| begin + n);
        if place >= end || !may(&content.synced[begin..end]) {
            return 0;
        }
        let bits = 1 + choose(3) as u64;
        for _ in 0..bits {
            let (place, bit) = (begin + choose(end - begin - 1), 1 << choose(7));
            content.synced[place] ^= bit;
            content.written[place] ^= bit;
        }
        bits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, position: usize) -> Box<dyn DiskFile> {
        Box::new(CrashFile { disk: self.clone(), position })
    }
}

impl Content {
    fn after_crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        let common = self.written.iter().zip(&self.synced).take_while(|(a, b)| a == b).count();
        if common < self.synced.len() && choose(1) == 0 {
            return self.synced.clone();
        }
        self.written[..common + choose(self.written.len() - common)].to_vec()
    }
}

impl State {
    /// Does one unit of work. Fails if the power is off.
    fn work(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => return Err(off()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn work_sync(&mut self) -> io::Result<()> {
        self.work()?;
        if std::mem::take(&mut self.fail_sync) { Err(io::Error::other("sync failed on demand")) } else { Ok(()) }
    }

    fn position(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_power(&self) -> io::Result<()> {
        if self.power == Some(0) { Err(off()) } else { Ok(()) }
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for CrashDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.check_power()?;
        let length = |position: usize| state.contents[position].written.len() as u64;
        Ok(state.names.iter().map(|(name, position)| (name.clone(), length(*position))).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.work()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let position = state.contents.len();
        state.contents.push(Content::default());
        state.names.insert(name.to_owned(), position);
        Ok(self.file(position))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        Ok(self.file(state.position(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        state.position(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.work()?;
        let position = state.position(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let State { names, synced_names, .. } = &mut *state;
        for names in [names, synced_names] {
            names.remove(from);
            names.insert(to.to_owned(), position);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.work_sync()?;
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    position: usize,
}

impl DiskFile for CrashFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_power()?;
        let written = &state.contents[self.position].written;
        let rest = usize::try_from(offset).ok().and_then(|from| written.get(from..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let failing = state.fail_append_after.take();
        let used: usize = state.names.values().map(|position| state.contents[*position].written.len()).sum();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let allowed = failing.unwrap_or(bytes.len()).min(bytes.len()).min(room);
        let power = state.power.map_or(allowed, |left| usize::try_from(left).unwrap_or(allowed).min(allowed));
        state.contents[self.position].written.extend_from_slice(&bytes[..power]);
        if let Some(left) = &mut state.power {
            *left -= power as u64;
        }
        match power {
            all if all == bytes.len() => Ok(()),
            part if part < allowed => Err(off()),
            _ if failing.is_some() => Err(io::Error::other("write failed on demand")),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work()?;
        let written = &mut state.contents[self.position].written;
        written.truncate(usize::try_from(length).unwrap_or(written.len()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.work_sync()?;
        let content = &mut state.contents[self.position];
        content.synced = content.written.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
