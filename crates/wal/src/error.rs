//! What can go wrong with the log, and what the caller can do about it.

use std::io;
use std::path::PathBuf;

/// A failure of the log. Only [`WalError::Full`] is worth waiting for; after [`WalError::Disk`] from a write the log is
/// poisoned, and whatever it holds is found again when it is next opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process has the directory.
    #[error(
        "the log in {dir} is in use by {}; stop it first, or give each service its own directory",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, as far as it said so.
        holder: Option<u32>,
    },
    /// The disk refused something.
    #[error("cannot {action} {file}")]
    Disk {
        /// What was being done, as a verb: `write`, `sync`, …
        action: &'static str,
        /// The file or directory it was done to.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// An earlier write or sync failed, so nobody knows what is on the disk: nothing is written until the log is opened
    /// anew, which looks.
    #[error("the log takes nothing more until it is opened again, because earlier it failed: {cause}")]
    Poisoned {
        /// The failure, in words.
        cause: String,
    },
    /// The batch would take the log past its bound. Nothing was written: complete operations, then
    /// [`reclaim`](crate::Wal::reclaim), then try again.
    #[error("the log is full: {used} of {max} bytes are used and {needed} more are needed")]
    Full {
        /// Bytes in all files of the log.
        used: u64,
        /// Bytes of the refused batch.
        needed: u64,
        /// The bound.
        max: u64,
    },
    /// The batch, or a line of it, can never fit. Nothing was written.
    #[error("{needed} bytes can never be written: the log takes at most {max} at once")]
    TooLarge {
        /// Bytes of the refused batch or line.
        needed: u64,
        /// The most it could have.
        max: u64,
    },
    /// The text of an operation is not a JSON object. Nothing was written.
    #[error("operation {operation_id} is not a JSON object")]
    NotAnObject {
        /// Whose operation it was.
        operation_id: String,
    },
    /// A pending line does not read as it did when the log was opened.
    #[error("{file} changed under the log: at byte {offset} operation {operation_id} is no longer there")]
    Changed {
        /// The file.
        file: String,
        /// Where the line begins.
        offset: u64,
        /// The operation that was there.
        operation_id: String,
    },
}

impl WalError {
    /// For `map_err`: the disk refused to `action` the `file`.
    pub(crate) fn disk(action: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Disk { action, file, source }
    }
}
