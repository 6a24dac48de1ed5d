//! Errors of the embedded stores and their fault classes.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use rusqlite::ErrorCode;

/// How long a transaction waits for the write lock while another process holds it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An error of a transaction of this module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot create the file: {0}")]
    Create(std::io::Error),
    #[error(
        "another program has held the write lock of the file for more than {} s; end its transaction (`lsof` on the \
         file shows the process)",
        PATIENCE.as_secs()
    )]
    Blocked,
    #[error(
        "the tables of the file have version {0}, and this program needs version {1}; stop the process that holds the \
         lock of the directory and start it again with this program"
    )]
    Old(i64, usize),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("cannot read or write {0}: {1}")]
    Unreadable(&'static str, String),
    #[error("another service of this process works the stream: the lease is not of this one any more")]
    Lease,
    #[error("the merge was given up before its commit; nothing was written")]
    Abandoned,
}

impl Error {
    /// Classifies the failure of `BEGIN IMMEDIATE`: a busy database is [`Self::Blocked`].
    pub(super) fn of_begin(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => Self::Blocked,
            _ => Self::Sqlite(error),
        }
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let class = match &self {
            Self::Fault(fault) => return fault.clone(),
            Self::Create(_) => FaultClass::Disk,
            Self::Blocked => FaultClass::Busy,
            Self::Old(..) => FaultClass::Misconfigured,
            Self::Sqlite(error) => class(error),
            Self::Unreadable(..) => FaultClass::Corrupt,
            Self::Lease | Self::Abandoned => FaultClass::Busy,
        };
        let code = match &self {
            Self::Sqlite(error) => error.sqlite_error().map(|error| error.extended_code.to_string()),
            _ => None,
        };
        Fault::new(class, context, &self).caused_by(self, code)
    }
}

fn class(error: &rusqlite::Error) -> FaultClass {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => FaultClass::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => FaultClass::Corrupt,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied) => {
            FaultClass::Denied
        }
        Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => FaultClass::Rejected,
        Some(_) => FaultClass::Disk,
        None => FaultClass::Corrupt,
    }
}
