//! What the log needs of a disk, and the real one.
//!
//! The contract: after an `append` the bytes are in the file but may be lost by a crash, in part; after [`DiskFile::sync`]
//! the content and length of the file survive. That a file exists, or no longer does, survives only after
//! [`Disk::sync_dir`]. A disk that crashes at will is in [`testing`](crate::testing).

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::WalError;

/// One directory, without subdirectories.
pub trait Disk: Debug + Send + Sync {
    /// Every file with its length in bytes, in no order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A new, empty file. Fails if there is one.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals survive a crash.
    fn sync_dir(&self) -> io::Result<()>;
    /// Whether calls may keep their thread waiting. A disk in memory has them done at once, in whatever order it is called.
    fn blocks(&self) -> bool {
        true
    }
}

/// One open file.
pub trait DiskFile: Debug + Send {
    /// Fills `buffer` from byte `offset`, as far as one read goes; 0 is the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all `bytes` at the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes content and length survive a crash. After an error nothing is known of either.
    fn sync(&mut self) -> io::Result<()>;
}

/// Says who has the directory; never part of the log.
const LOCK: &str = "wal.lock";

/// Whoever asks for the [`holder`] has the lock for an instant: a refusal is looked into for as long.
const LOOKED: Duration = Duration::from_millis(100);

/// Who has the log in `dir`: `None` where nobody does, `Some(None)` where somebody does who has not said so yet.
pub fn holder(dir: &Path) -> Result<Option<Option<u32>>, WalError> {
    let path = dir.join(LOCK);
    let on_lock = |action| WalError::disk(action, path.display().to_string());
    let mut lock = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        lock => lock.map_err(on_lock("open"))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(said_by(&mut lock).map_err(on_lock("read"))?)),
        Err(TryLockError::Error(error)) => Err(on_lock("lock")(error)),
    }
}

fn said_by(lock: &mut File) -> io::Result<Option<u32>> {
    let mut holder = String::new();
    lock.read_to_string(&mut holder)?;
    Ok(holder.trim().parse().ok())
}

fn try_lock(lock: &File) -> Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < LOOKED => std::thread::sleep(LOOKED / 20),
            tried => return tried,
        }
    }
}

/// A directory of the file system. Only the holder of its lock can write.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    lock: Option<File>,
}

impl RealDisk {
    /// Creates the directory if need be and locks it until the disk is dropped, or the process ends, however it does.
    pub fn locked(dir: &Path) -> Result<Self, WalError> {
        create_dir_durably(dir).map_err(WalError::disk("create", dir.display().to_string()))?;
        let path = dir.join(LOCK);
        let on_lock = |action| WalError::disk(action, path.display().to_string());
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(on_lock("open"))?;
        match try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = said_by(&mut lock).map_err(on_lock("read"))?;
                return Err(WalError::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(on_lock("lock")(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(on_lock("write"))?;
        Ok(Self { dir: dir.to_owned(), lock: Some(lock) })
    }

    /// For looking only, whoever has the lock.
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lock: None }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only")),
        }
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((name, metadata.len())),
                Ok(_) => {}
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.check_writable()?;
        // What the log carries is not for everybody on the machine.
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o640).open(self.dir.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(self.lock.is_some()).open(self.dir.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A new directory survives a crash only once its parent is synced, and so on upwards.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir_durably(parent)?;
    match fs::create_dir(dir) {
        // Somebody else was quicker; a file in the way is told by whatever comes next.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

/// Reads a file from a place on.
#[derive(Debug)]
pub(crate) struct ReadFrom<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) offset: u64,
}

impl Read for ReadFrom<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let held = RealDisk::locked(&dir).unwrap();
        let Err(refused) = RealDisk::locked(&dir) else { panic!("two holders") };
        let text = refused.to_string();
        assert!(text.contains(dir.to_str().unwrap()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert_eq!(holder(&dir).unwrap(), Some(Some(std::process::id())));
        drop(held);
        assert_eq!(holder(&dir).unwrap(), None);
        assert_eq!(holder(root.path()).unwrap(), None, "a directory without a log");
        RealDisk::locked(&dir).unwrap();
    }

    #[test]
    fn without_the_lock_nothing_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let disk = RealDisk::read_only(dir.path());
        assert!(disk.create("g").is_err());
        assert!(disk.remove("f").is_err());
        assert!(disk.open("f").unwrap().append(b"y").is_err());
        assert!(disk.open("f").unwrap().truncate(0).is_err());
        assert_eq!(disk.list().unwrap(), [("f".to_owned(), 1)]);
    }

    #[test]
    fn an_appended_file_reads_back_after_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::locked(dir.path()).unwrap();
        let mut file = disk.create("f").unwrap();
        file.append(b"abcdef").unwrap();
        file.truncate(3).unwrap();
        file.append(b"x").unwrap();
        file.sync().unwrap();
        let mut text = String::new();
        ReadFrom { file: &*file, offset: 1 }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bcx");
        assert!(disk.create("f").is_err());
        disk.remove("f").unwrap();
        disk.sync_dir().unwrap();
    }
}
