//! Errors of Neo4j and its client, and their fault classes.

use std::io::{self, ErrorKind};
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};

use crate::tls;

/// The section of the configuration.
const KEYS: &str = "neo4j";

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
    Deadline(Duration),
    #[error(
        "another client deleted a node while this transaction waited for its lock; the transaction can be repeated"
    )]
    Vanished,
    #[error(
        "cannot decode a result of the server: the column `{0}` is missing or has another type; \
         check that neo4j.url leads to Neo4j 4.4 or later"
    )]
    Answer(&'static str),
    /// The answer comes from a server that takes no writes.
    #[error(
        "{code}: {message}; the server is not the leader of the database; name its cluster by neo4j:// in neo4j.url"
    )]
    NotALeader { code: String, message: String },
    #[error(
        "the cluster has no leader of the database at present; wait for the election, or start the missing members"
    )]
    NoLeader,
    /// The server refused the login; the client does not repeat it at once.
    #[error("{refusal}; the next attempt follows within {} s, because Neo4j locks a user after three of them", .pause.as_secs())]
    Login { refusal: String, pause: Duration },
    #[error("{0}")]
    Setup(String),
}

const DATABASE_NOT_FOUND: &str = "Neo.ClientError.Database.DatabaseNotFound";

/// The codes of a server that is not, or no longer, the leader, or whose database is read-only.
const NOT_A_LEADER: [&str; 2] =
    ["Neo.ClientError.Cluster.NotALeader", "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase"];

impl Error {
    /// The error of a refused request.
    pub(super) fn of_server(code: String, message: String) -> Self {
        if NOT_A_LEADER.contains(&code.as_str()) {
            return Self::NotALeader { code, message };
        }
        Self::Server { code, message }
    }

    /// Whether the server refused user or password.
    pub(super) fn is_refused_login(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code.starts_with("Neo.ClientError.Security."))
    }

    /// Whether the database does not exist.
    pub(super) fn is_no_database(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == DATABASE_NOT_FOUND)
    }

    /// Whether another server may be the leader now.
    pub(super) fn wants_another_server(&self) -> bool {
        match self {
            Self::NotALeader { .. } | Self::NoLeader | Self::Connection(_) | Self::Deadline(_) => true,
            Self::Server { .. } => self.class() == FaultClass::Unavailable,
            _ => false,
        }
    }

    pub(super) fn class(&self) -> FaultClass {
        match self {
            Self::Connection(error) if tls::explain(error, KEYS).is_some() => FaultClass::Misconfigured,
            // The host is no name that a certificate can have.
            Self::Connection(error) if error.kind() == ErrorKind::InvalidData => FaultClass::Misconfigured,
            Self::Connection(_) => FaultClass::Unavailable,
            Self::Server { code, .. } => server(code),
            Self::Deadline(_) => FaultClass::Timeout,
            Self::NotALeader { .. } | Self::NoLeader => FaultClass::Unavailable,
            Self::Login { .. } => FaultClass::Denied,
            Self::Vanished => FaultClass::Busy,
            Self::Answer(_) => FaultClass::Corrupt,
            Self::Setup(_) => FaultClass::Misconfigured,
        }
    }

    /// Whether the server has not enough memory for the transaction.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code.contains("OutOfMemory"))
    }

    /// The fault of a transaction with so many writes. With fewer of them it could succeed if one of them is refused, or
    /// if together they exceed the memory. A single write that exceeds the memory of one transaction never succeeds.
    pub(super) fn of_write(self, writes: usize) -> Fault {
        let wants_less = self.is_out_of_memory() || matches!(self.class(), FaultClass::Rejected | FaultClass::Corrupt);
        let of_transaction = matches!(&self, Self::Server { code, .. } if code.contains("TransactionOutOfMemory"));
        let fault = Fault { divisible: writes > 1 && wants_less, ..self.into_fault(WRITE) };
        if writes > 1 || !of_transaction {
            return fault;
        }
        let remedy = "this chunk alone needs more; raise db.memory.transaction.max";
        Fault { class: FaultClass::Rejected, message: format!("{}; {remedy}", fault.message), ..fault }
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let code = match &self {
            Self::Server { code, .. } | Self::NotALeader { code, .. } => Some(code.clone()),
            _ => None,
        };
        let fault = match &self {
            Self::Connection(error) if let Some(text) = tls::explain(error, KEYS) => {
                Fault::new(self.class(), context, text)
            }
            _ => Fault::new(self.class(), context, &self),
        };
        fault.caused_by(self, code)
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
        // Database, Schema, Procedure, Request: the server is not set up as required.
        _ => FaultClass::Misconfigured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_the_leader_is_unavailable() {
        for code in super::NOT_A_LEADER {
            let error = Error::of_server(code.to_owned(), String::new());
            assert!(error.wants_another_server() && error.class() == FaultClass::Unavailable, "{code}");
        }
    }

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
