//! The lock of the directory: a locked file that contains the process id and command of its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use chunk_sync_engine::ports::{Fault, FaultClass};

const CONTEXT: &str = "embedded stores";

/// How long to wait for a lock that this same process has just released: its file may still be closing.
const CLOSING: Duration = Duration::from_secs(2);

/// How long to wait for a lock of another process: [`held_by`] takes a shared lock for an instant.
const LOOKED: Duration = Duration::from_millis(100);

/// The lock on a directory. The operating system releases it when the process ends, even by a crash.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path, command: &str) -> Result<Self, Fault> {
        let path = dir.join("LOCK");
        let disk = |error| Fault::new(FaultClass::Disk, CONTEXT, format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(disk)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&mut file).map_err(disk)?;
                    let patience = if holder.starts_with(&process()) { CLOSING } else { LOOKED };
                    if began.elapsed() > patience {
                        return Err(held(dir, &holder));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::Error(error)) => return Err(disk(error)),
            }
        }
        file.set_len(0).map_err(disk)?;
        file.rewind().map_err(disk)?;
        write!(file, "{}, `chunk-sync {command}`", process()).map_err(disk)?;
        Ok(Self { _file: file })
    }
}

/// The process id and command of the holder, as text; `None` when no process holds the lock.
pub(super) fn held_by(dir: &Path) -> std::io::Result<Option<String>> {
    let mut file = match File::open(dir.join("LOCK")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => holder(&mut file).map(Some),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn process() -> String {
    format!("process {}", std::process::id())
}

fn holder(file: &mut File) -> std::io::Result<String> {
    let mut holder = String::new();
    file.rewind()?;
    file.read_to_string(&mut holder)?;
    Ok(holder)
}

fn held(dir: &Path, holder: &str) -> Fault {
    let holder = if holder.is_empty() { "another process" } else { holder };
    let message = format!(
        "{} is locked by {holder}, and one process at a time syncs the events of a directory; stop that process first \
         (other commands run beside it)",
        dir.display()
    );
    Fault::new(FaultClass::Busy, CONTEXT, message)
}
