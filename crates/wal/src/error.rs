//! The errors of the log, and what the caller can do about them.

use std::io;
use std::path::PathBuf;

/// A failure of the log. Only [`WalError::Full`] and [`WalError::NoSpace`] are worth a retry. After [`WalError::Disk`] from a write the log is
/// poisoned; what is on the disk is recovered when the log is opened again.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process holds the lock of the directory.
    #[error(
        "the log in {dir} is in use by {}; stop it first, or give each service its own directory",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory of the log.
        dir: PathBuf,
        /// The id of the process that holds the lock; `None` if it has not written its id yet.
        holder: Option<u32>,
    },
    /// An operation on the disk failed.
    #[error("cannot {action} {file}")]
    Disk {
        /// The failed action as a verb: `write`, `sync`, …
        action: &'static str,
        /// The file or directory that the action concerned.
        file: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An earlier write or sync failed, so the content of the disk is unknown. Nothing more is written until the log is
    /// opened again, which reads the disk.
    #[error("the log accepts no writes after an earlier failure ({cause}); open the log again")]
    Poisoned {
        /// The message of the earlier failure.
        cause: String,
    },
    /// The batch would make the log exceed [`max_bytes`](crate::Options::max_bytes). Nothing was written. Complete
    /// operations, call [`reclaim`](crate::Wal::reclaim), then retry.
    #[error("the log is full: {used} of {max} bytes used, {needed} more needed; retry when operations have completed")]
    Full {
        /// Bytes in all files of the log.
        used: u64,
        /// Bytes of the rejected batch.
        needed: u64,
        /// The maximum size of the log in bytes.
        max: u64,
    },
    /// The disk of the log has no room for the batch. The part of it that was written is cut off, so the log remains
    /// usable. Complete operations, call [`reclaim`](crate::Wal::reclaim), then retry.
    #[error(
        "no space left on the disk of the log: {needed} bytes did not fit; free disk space, or lower wal.max_bytes below \
         the size of the disk"
    )]
    NoSpace {
        /// Bytes of the rejected batch.
        needed: u64,
    },
    /// The batch, or a line of it, exceeds a fixed limit, so a retry cannot succeed. Nothing was written.
    #[error("cannot append {needed} bytes: the limit is {max}; append a smaller batch or operation")]
    TooLarge {
        /// Bytes of the rejected batch or line.
        needed: u64,
        /// The limit in bytes: [`max_bytes`](crate::Options::max_bytes) for a batch, [`MAX_LINE`](crate::MAX_LINE) for
        /// a line.
        max: u64,
    },
    /// The text of an operation is not a JSON object. Nothing was written.
    #[error("operation {operation_id} is not a JSON object; nothing was written")]
    NotAnObject {
        /// The id of the operation.
        operation_id: String,
    },
    /// A pending line is not the one that was read when the log was opened.
    #[error(
        "{file} was changed while the log was open: operation {operation_id} is not at byte {offset}; \
         stop the program that changed it"
    )]
    Changed {
        /// The file.
        file: String,
        /// The offset of the line in bytes.
        offset: u64,
        /// The id of the operation that was there.
        operation_id: String,
    },
}

impl WalError {
    /// Whether the log has no room, by its own bound or on its disk: a retry can succeed once operations have completed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::NoSpace { .. })
    }

    /// Whether a write or the creation of a file failed only because the disk has no space left.
    pub(crate) fn is_no_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Disk { action: "write" | "create", source, .. } if full(source.kind()))
    }

    /// For `map_err`: wraps an I/O error with the failed action and its file.
    pub(crate) fn disk(action: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Disk { action, file, source }
    }
}
