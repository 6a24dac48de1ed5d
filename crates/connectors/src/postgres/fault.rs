//! Errors of PostgreSQL and its client, and their fault classes.

use std::error::Error as _;
use std::io::ErrorKind;

use chunk_sync_engine::ports::{Fault, FaultClass};
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::{DbError, SqlState};

/// An error of a transaction of this module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", said(.0))]
    Client(#[from] tokio_postgres::Error),
    #[error("no connection of the pool became free in time")]
    NoConnection,
    #[error("cannot connect within the time limit")]
    SlowConnection,
    #[error("no answer within {0:?}; the transaction may or may not have committed")]
    Deadline(std::time::Duration),
    #[error("another process holds the lease of the stream")]
    Lease,
    #[error("another session inserted a row with the same id during the merge")]
    Overtaken,
    #[error(
        "the table did not {1} the row of chunk {0} and reported no error: a trigger or a rule skips it (RETURN NULL, DO \
         INSTEAD NOTHING); let it pass for the role of the service, or make it raise an error"
    )]
    Skipped(uuid::Uuid, &'static str),
    #[error(
        "{0} is another table than the one on record, oid {1}: no row is written into it; give the table on record its \
         name back, or accept this one with `chunk-sync init --adopt`"
    )]
    OtherTable(String, u32),
    #[error("{0}")]
    Setup(String),
    #[error(transparent)]
    Fenced(Fault),
    #[error("the server is a standby and takes no writes; set postgres.url to the primary")]
    Standby,
    #[error("cannot decode the record of chunk {0}: {1}")]
    Record(uuid::Uuid, chunk_sync_model::record::RecordError),
    #[error("cannot decode conflict {0}: {1}")]
    Conflict(u64, String),
}

/// What to do when the database takes no writes.
pub(super) const READ_ONLY: &str = "a host sets default_transaction_read_only when the disk is almost full: make room, or \
    lift it; the service then goes on by itself";

/// The field of a chunk that is in this column of the table.
pub(super) fn field(column: &str) -> String {
    let (group, name) = match column {
        "project_id" | "dataset_id" => ("organization", column),
        "cognee_dataset_id" => ("organization", "cognee_dataset"),
        "source_type" => ("source", "type"),
        "source_url" => ("source", "url"),
        "relative_path" => ("source", "path"),
        "start_line" | "end_line" | "start_char" | "end_char" => ("location", column),
        "language" | "is_code" | "confidence" => ("code_metadata", column),
        "graph_node_id" => ("graph", "node_id"),
        "entity_refs" => ("graph", "entities"),
        "dense_vector" | "embedding_model" => ("embeddings", "dense"),
        "sparse_vector" => ("embeddings", "sparse"),
        "created_at" | "updated_at" | "indexed_at" | "cognified_at" => ("metadata", column),
        _ => return column.to_owned(),
    };
    format!("{group}.{name}")
}

/// The server's message, SQLSTATE and hint. Never its detail, which may quote the row.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let hint = match db.hint() {
                Some(hint) => format!("; {hint}"),
                None if *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION => format!("; {READ_ONLY}"),
                None => String::new(),
            };
            let remedy = if hides_rows(db) { "; ALTER ROLE … BYPASSRLS for the role of the service" } else { "" };
            format!("{} (SQLSTATE {}){hint}{remedy}", db.message(), db.code().code())
        }
        None => error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// Whether row level security would hide rows from the role: with `row_security = off` the server refuses the query
/// instead. The code is the one of a missing privilege; only the routine distinguishes the two.
fn hides_rows(error: &DbError) -> bool {
    error.routine() == Some("check_enable_rls")
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Client(error),
            PoolError::Timeout(TimeoutType::Wait) | PoolError::Closed => Self::NoConnection,
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => Self::SlowConnection,
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Self::NoConnection,
        }
    }
}

impl Error {
    pub(super) fn class(&self) -> FaultClass {
        match self {
            Self::Client(error) => client(error),
            // The events of the chunk wait beside the bus until the operator has decided.
            Self::OtherTable(..) => FaultClass::Busy,
            Self::NoConnection | Self::Overtaken | Self::Lease => FaultClass::Busy,
            Self::SlowConnection | Self::Deadline(_) => FaultClass::Timeout,
            Self::Fenced(fault) => fault.class,
            Self::Skipped(..) => FaultClass::Rejected,
            Self::Setup(_) => FaultClass::Misconfigured,
            Self::Standby => FaultClass::Unavailable,
            Self::Record(..) | Self::Conflict(..) => FaultClass::Corrupt,
        }
    }

    /// Whether row level security would hide rows from the role of the service.
    pub(super) fn hides_rows(&self) -> bool {
        matches!(self, Self::Client(error) if error.as_db_error().is_some_and(hides_rows))
    }

    /// The constraint that the row violates.
    pub(super) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Client(error) => error.as_db_error().and_then(DbError::constraint),
            _ => None,
        }
    }

    /// Whether the statement failed only because an earlier statement had aborted the transaction.
    pub(super) fn is_echo(&self) -> bool {
        matches!(self, Self::Client(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION))
    }

    /// Whether the session takes no writes.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Client(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let fault = Fault::new(self.class(), context, &self);
        match &self {
            Self::Fenced(fenced) => fenced.clone(),
            Self::Client(error) => {
                let fault = Fault { awaits_parent: error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION), ..fault };
                match error.as_db_error().and_then(DbError::column) {
                    Some(column) => fault.at(field(column)),
                    None => fault,
                }
            }
            _ => fault,
        }
    }
}

fn client(error: &tokio_postgres::Error) -> FaultClass {
    if error.as_db_error().is_some_and(hides_rows) {
        return FaultClass::Misconfigured;
    }
    if let Some(code) = error.code() {
        return server(code.code());
    }
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match (io, error.to_string().as_str()) {
        (Some(ErrorKind::TimedOut), _) => FaultClass::Timeout,
        (_, text) if text.starts_with("error performing TLS") => FaultClass::Misconfigured,
        (_, text) if text.starts_with("invalid configuration") => FaultClass::Misconfigured,
        (_, text) if text.starts_with("authentication error") => FaultClass::Denied,
        (_, text) if text.starts_with("error serializing parameter") => FaultClass::Rejected,
        (_, text) if text.starts_with("error deserializing column") => FaultClass::Corrupt,
        // The connection broke, or could not be opened.
        _ => FaultClass::Unavailable,
    }
}

/// The class of a SQLSTATE: first the codes that differ from their class, then the class by the first two characters.
fn server(code: &str) -> FaultClass {
    match code {
        // Completion unknown, or ended by a time limit.
        "40003" | "57014" | "25P03" | "25P04" => FaultClass::Timeout,
        "42501" => FaultClass::Denied,
        // Disk or memory of the server is full, or the server has become a standby. Not contention.
        "53100" | "53200" | "25006" => FaultClass::Unavailable,
        "55000" | "57P04" => FaultClass::Misconfigured,
        "XX001" | "XX002" => FaultClass::Corrupt,
        _ => kind(code.get(..2).unwrap_or_default()),
    }
}

fn kind(kind: &str) -> FaultClass {
    match kind {
        // Rollback, insufficient resources, object in use, snapshot too old.
        "40" | "53" | "55" | "72" => FaultClass::Busy,
        "28" => FaultClass::Denied,
        // Feature not supported; unknown statement, database, schema, table or column; syntax; configuration file.
        "0A" | "26" | "3D" | "3F" | "42" | "F0" => FaultClass::Misconfigured,
        // The value, a constraint, a trigger or a program limit refuses the row.
        "09" | "21" | "22" | "23" | "27" | "2F" | "38" | "39" | "44" | "54" | "P0" => FaultClass::Rejected,
        // Connection, operator intervention, system errors, and every other failure of the server.
        _ => FaultClass::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_with_the_right_reaction() {
        for (class, codes) in [
            (FaultClass::Busy, &["40001", "40P01", "55P03", "55006", "53300"][..]),
            (FaultClass::Unavailable, &["08006", "57P01", "57P02", "57P03", "53100", "58030", "25006", "XX000"]),
            (FaultClass::Timeout, &["57014", "25P03"]),
            (FaultClass::Denied, &["28000", "28P01", "42501"]),
            (FaultClass::Misconfigured, &["3D000", "3F000", "42P01", "42703", "42704", "42804", "0A000"]),
            (FaultClass::Rejected, &["22021", "22P05", "22001", "22003", "22000", "23502", "23514", "54000", "P0001"]),
            (FaultClass::Corrupt, &["XX001", "XX002"]),
        ] {
            for code in codes {
                assert_eq!(server(code), class, "{code}");
            }
        }
    }

    #[test]
    fn an_unknown_code_is_unavailable() {
        for code in ["", "Z", "ZZ999"] {
            assert_eq!(server(code), FaultClass::Unavailable, "{code}");
        }
    }
}
