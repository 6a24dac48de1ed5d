//! Errors of Neo4j and its client, and their fault classes.

use std::io::ErrorKind;

use chunk_sync_engine::ports::{Fault, FaultClass};
use neo4rs::{Neo4jClientErrorKind, Neo4jError, Neo4jErrorKind};

/// The context of a fault while writing.
pub(super) const WRITE: &str = "neo4j: write";

/// An error of one transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Client(#[from] neo4rs::Error),
    #[error("no response within {0:?}; the statement may or may not have taken effect")]
    Deadline(std::time::Duration),
    #[error(
        "another client deleted a node while this transaction waited for its lock; the transaction can be repeated"
    )]
    Vanished,
    #[error("cannot decode a result of the server: {0}")]
    Answer(#[from] neo4rs::DeError),
    #[error("{0}")]
    Setup(String),
}

impl Error {
    pub(super) fn class(&self) -> FaultClass {
        match self {
            Self::Client(error) => client(error),
            Self::Deadline(_) => FaultClass::Timeout,
            Self::Vanished => FaultClass::Busy,
            Self::Answer(_) => FaultClass::Corrupt,
            Self::Setup(_) => FaultClass::Misconfigured,
        }
    }

    /// Whether a smaller batch could succeed: one write of the batch is refused, or the batch exceeds the server's
    /// memory.
    pub(super) fn wants_less(&self) -> bool {
        let memory = |error: &Neo4jError| error.code().contains("OutOfMemory");
        match self {
            Self::Client(neo4rs::Error::Neo4j(error)) if memory(error) => true,
            _ => self.class() == FaultClass::Rejected,
        }
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        Fault::new(self.class(), context, self)
    }
}

fn client(error: &neo4rs::Error) -> FaultClass {
    use neo4rs::Error;
    match error {
        Error::Neo4j(error) => server(error),
        Error::AuthenticationError(_) => FaultClass::Denied,
        Error::ConnectionTimedOut => FaultClass::Timeout,
        // The certificate is not trusted.
        Error::IOError { detail } if detail.kind() == ErrorKind::InvalidData => FaultClass::Misconfigured,
        Error::UrlParseError(_)
        | Error::UnsupportedScheme(_)
        | Error::InvalidDnsName(_)
        | Error::InvalidConfig
        | Error::UnsupportedVersion(..)
        | Error::ProtocolMismatch(_) => FaultClass::Misconfigured,
        Error::StringTooLong | Error::MapTooBig | Error::BytesTooBig | Error::ListTooLong => FaultClass::Rejected,
        Error::DeserializationError(_) | Error::ConversionError => FaultClass::Corrupt,
        // Everything else is a broken connection, or an invalid message on it.
        _ => FaultClass::Unavailable,
    }
}

fn server(error: &Neo4jError) -> FaultClass {
    match error.kind() {
        Neo4jErrorKind::Transient if error.code().ends_with("Unavailable") => FaultClass::Unavailable,
        Neo4jErrorKind::Transient => FaultClass::Busy,
        Neo4jErrorKind::Client(Neo4jClientErrorKind::Security(_)) => FaultClass::Denied,
        // A lock timeout, or a transaction that an operator or a limit of the server ended.
        Neo4jErrorKind::Client(Neo4jClientErrorKind::TransactionTerminated) => FaultClass::Busy,
        Neo4jErrorKind::Client(_) => refusal(error.code()),
        Neo4jErrorKind::Database if error.code().contains(".Schema.") => FaultClass::Misconfigured,
        // A value that the server cannot store. The only known case is a value too long for an index.
        Neo4jErrorKind::Database if error.code().ends_with(".Statement.ExecutionFailed") => FaultClass::Rejected,
        Neo4jErrorKind::Database | Neo4jErrorKind::Unknown => FaultClass::Unavailable,
    }
}

/// The class of any other `Neo.ClientError`.
fn refusal(code: &str) -> FaultClass {
    let what = code.strip_prefix("Neo.ClientError.").unwrap_or(code);
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
