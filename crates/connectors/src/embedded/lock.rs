//! One process at a time: a locked file that says who holds the directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use chunk_sync_engine::ports::{Fault, FaultClass};

const CONTEXT: &str = "embedded stores";

/// The lock on a directory. The system gives it up when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path, command: &str) -> Result<Self, Fault> {
        let path = dir.join("LOCK");
        let disk = |error| Fault::new(FaultClass::Disk, CONTEXT, format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(disk)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(disk(error)),
        }
        file.set_len(0).map_err(disk)?;
        file.rewind().map_err(disk)?;
        write!(file, "process {}, `chunk-sync {command}`", std::process::id()).map_err(disk)?;
        Ok(Self { _file: file })
    }
}

fn held(dir: &Path, file: &mut File) -> Fault {
    let mut holder = String::new();
    if file.read_to_string(&mut holder).is_err() || holder.is_empty() {
        holder = "another process".to_owned();
    }
    let message = format!(
        "{} is held by {holder}: one process at a time may use it. Stop that one first, or talk to it over HTTP",
        dir.display()
    );
    Fault::new(FaultClass::Busy, CONTEXT, message)
}
