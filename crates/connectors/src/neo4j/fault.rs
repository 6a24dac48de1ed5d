//! Errors of Neo4j and its client, and their fault classes.

use std::io::{self, ErrorKind};

use chunk_sync_engine::ports::{Fault, FaultClass};

/// The context of a fault while writing.
pub(super) const WRITE: &str = "neo4j: write";

/// An error of one transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The server refused a request. The code is `Neo.CLASS.CATEGORY.TITLE`.
    #[error("{code}: {message}")]
    Server { code: String, message: String },
    #[error("no response within {0:?}; the statement may or may not have taken effect")]
    Deadline(std::time::Duration),
    #[error(
        "another client deleted a node while this transaction waited for its lock; the transaction can be repeated"
    )]
    Vanished,
    #[error("cannot decode a result of the server: the column `{0}` is missing or has another type")]
    Answer(&'static str),
    #[error("{0}")]
    Setup(String),
}

impl Error {
    pub(super) fn class(&self) -> FaultClass {
        match self {
            // The certificate is not trusted.
            Self::Connection(error) if error.kind() == ErrorKind::InvalidData => FaultClass::Misconfigured,
            Self::Connection(_) => FaultClass::Unavailable,
            Self::Server { code, .. } => server(code),
            Self::Deadline(_) => FaultClass::Timeout,
            Self::Vanished => FaultClass::Busy,
            Self::Answer(_) => FaultClass::Corrupt,
            Self::Setup(_) => FaultClass::Misconfigured,
        }
    }

    /// Whether a smaller batch could succeed: one write of the batch is refused, or the batch exceeds the server's
    /// memory.
    pub(super) fn wants_less(&self) -> bool {
        match self {
            Self::Server { code, .. } if code.contains("OutOfMemory") => true,
            _ => self.class() == FaultClass::Rejected,
        }
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let code = match &self {
            Self::Server { code, .. } => Some(code.clone()),
            _ => None,
        };
        Fault::new(self.class(), context, &self).caused_by(self, code)
    }
}

/// The class of a code of the server.
fn server(code: &str) -> FaultClass {
    match code.strip_prefix("Neo.").and_then(|code| code.split_once('.')) {
        Some(("TransientError", what)) if what.ends_with("Unavailable") => FaultClass::Unavailable,
        Some(("TransientError", _)) => FaultClass::Busy,
        Some(("ClientError", what)) if what.starts_with("Security.") => FaultClass::Denied,
        Some(("ClientError", what)) => refusal(what),
        Some(("DatabaseError", what)) if what.starts_with("Schema.") => FaultClass::Misconfigured,
        // A value that the server cannot store. The only known case is a value too long for an index.
        Some(("DatabaseError", "Statement.ExecutionFailed")) => FaultClass::Rejected,
        _ => FaultClass::Unavailable,
    }
}

/// The class of any other `Neo.ClientError`.
fn refusal(what: &str) -> FaultClass {
    match what {
        // Another client deleted the entity between the match and the lock.
        "Statement.EntityNotFound" => FaultClass::Busy,
        "Schema.ConstraintValidationFailed" => FaultClass::Rejected,
        "Statement.SyntaxError" | "Statement.SemanticError" => FaultClass::Misconfigured,
        // A limit that the server sets.
        _ if what.starts_with("Transaction.TransactionTimedOut") => FaultClass::Timeout,
        _ if what.starts_with("Transaction.") => FaultClass::Busy,
        _ if what.starts_with("Statement.") => FaultClass::Rejected,
        // Database, Schema, Cluster, Procedure, Request: the server is not set up as required.
        _ => FaultClass::Misconfigured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        for (code, class) in [
            ("Neo.TransientError.Transaction.DeadlockDetected", FaultClass::Busy),
            ("Neo.TransientError.General.DatabaseUnavailable", FaultClass::Unavailable),
            ("Neo.ClientError.Security.Unauthorized", FaultClass::Denied),
            ("Neo.ClientError.Database.DatabaseNotFound", FaultClass::Misconfigured),
            ("Neo.ClientError.Transaction.TransactionTimedOut", FaultClass::Timeout),
            ("Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration", FaultClass::Timeout),
            ("Neo.ClientError.Statement.EntityNotFound", FaultClass::Busy),
            ("Neo.ClientError.Statement.ArgumentError", FaultClass::Rejected),
            ("Neo.DatabaseError.Statement.ExecutionFailed", FaultClass::Rejected),
            ("Neo.DatabaseError.Schema.ConstraintCreationFailed", FaultClass::Misconfigured),
            ("Neo.DatabaseError.General.UnknownError", FaultClass::Unavailable),
            ("", FaultClass::Unavailable),
        ] {
            assert_eq!(server(code), class, "{code}");
        }
    }
}
