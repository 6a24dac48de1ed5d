//! What SQLite says, as the engine understands it.

use chunk_sync_engine::ports::{Fault, FaultClass};
use rusqlite::ErrorCode;

/// What can go wrong in a statement of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0} cannot be read: {1}")]
    Unreadable(&'static str, String),
    #[error("another service of this process works the stream: the lease is not of this one any more")]
    Lease,
}

impl Error {
    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let class = match &self {
            Self::Sqlite(error) => class(error),
            Self::Unreadable(..) => FaultClass::Corrupt,
            Self::Lease => FaultClass::Busy,
        };
        Fault::new(class, context, self)
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
