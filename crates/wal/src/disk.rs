//! The interface of the log to a disk, and its implementation on the file system.
//!
//! The contract: after an `append` the bytes are in the file, but a crash may lose them or a part of them. After
//! [`DiskFile::sync`] the content and length of the file survive a crash. The creation or removal of a file survives
//! only after [`Disk::sync_dir`]. [`testing`](crate::testing) has a disk that crashes on demand.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::WalError;

/// One directory, without subdirectories.
pub trait Disk: Debug + Send + Sync {
    /// All files with their lengths in bytes, in any order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Creates an empty file. Fails if it exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file. Durable on return: after a crash during the call the file has one of the two names. Fails if
    /// `to` exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations and removals survive a crash.
    fn sync_dir(&self) -> io::Result<()>;
    /// Whether calls may block their thread. Calls to a disk in memory return at once.
    fn blocks(&self) -> bool {
        true
    }
}

/// One open file.
pub trait DiskFile: Debug + Send {
    /// Reads into `buffer` from byte `offset`, with one read. Returns the number of bytes, 0 at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all `bytes` at the end. After an error the file may contain any part of them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Truncates the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes content and length survive a crash. After an error the state of both is unknown.
    fn sync(&mut self) -> io::Result<()>;
}

/// The lock file. It contains the id of the process that holds the directory, and is not part of the log.
const LOCK: &str = "wal.lock";

/// How long to retry the lock. [`holder`] takes a shared lock for an instant, which must not be taken for another
/// owner.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Returns the process that holds the log in `dir`: `None` if no process holds it, `Some(None)` if the process that
/// holds it has not written its id yet.
///
/// # Errors
/// [`WalError::Disk`] if the lock file exists but cannot be opened, locked or read.
pub fn holder(dir: &Path) -> Result<Option<Option<u32>>, WalError> {
    let path = dir.join(LOCK);
    let on_lock = |action| WalError::disk(action, path.display().to_string());
    let mut lock = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        lock => lock.map_err(on_lock("open"))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut lock).map_err(on_lock("read"))?)),
        Err(TryLockError::Error(error)) => Err(on_lock("lock")(error)),
    }
}

fn read_holder(lock: &mut File) -> io::Result<Option<u32>> {
    let mut holder = String::new();
    lock.read_to_string(&mut holder)?;
    Ok(holder.trim().parse().ok())
}

fn try_lock(lock: &File) -> Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_RETRY => std::thread::sleep(LOCK_RETRY / 20),
            tried => return tried,
        }
    }
}

/// A directory of the file system. Only the process that holds its lock can write.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    lock: Option<File>,
}

impl RealDisk {
    /// Creates the directory if it does not exist and locks it. The lock is released when the disk is dropped or the
    /// process ends for any reason.
    ///
    /// # Errors
    /// [`WalError::Locked`] if another process holds the lock; [`WalError::Disk`] if the directory cannot be created or
    /// the lock file cannot be opened, locked or written.
    pub fn locked(dir: &Path) -> Result<Self, WalError> {
        create_dir_durably(dir).map_err(WalError::disk("create", dir.display().to_string()))?;
        let path = dir.join(LOCK);
        let on_lock = |action| WalError::disk(action, path.display().to_string());
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(on_lock("open"))?;
        match try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut lock).map_err(on_lock("read"))?;
                return Err(WalError::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(on_lock("lock")(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(on_lock("write"))?;
        Ok(Self { dir: dir.to_owned(), lock: Some(lock) })
    }

    /// Opens the directory for reading only, without the lock.
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lock: None }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the log is open for reading only")),
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
                // Removed after the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.check_writable()?;
        // The log contains the content of chunks, so other users of the machine must not read it.
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(self.dir.join(name))?;
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

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        let to = self.dir.join(to);
        // Only the holder of the lock creates files of the log, so none appears in between.
        if to.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.dir.join(from), to)?;
        self.sync_dir()
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

/// Creates the directory and its parents. A new directory survives a crash only after its parent is synced.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir_durably(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        // Another process created it in the meantime. If it is a file, the error is returned.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

/// Reads a file from an offset on.
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
    fn a_second_process_is_refused_with_the_id_of_the_first() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let held = RealDisk::locked(&dir).unwrap();
        let Err(refused) = RealDisk::locked(&dir) else { panic!("two processes hold the lock") };
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
    fn a_file_reads_back_after_append_and_truncate() {
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
