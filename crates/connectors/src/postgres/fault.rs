//! Errors of PostgreSQL and its client, and their fault classes.

use chunk_sync_engine::ports::{Fault, FaultClass};
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::{DbError, SqlState};

use super::failure::{self, hides_rows};

/// An error of a transaction of this module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{}", failure::text(.0))]
    Client(#[from] tokio_postgres::Error),
    #[error("no connection of the pool became free in time; see pg_stat_activity for statements that wait for a lock")]
    NoConnection,
    #[error("cannot connect within the time limit; check that the server of postgres.url runs and accepts connections")]
    SlowConnection,
    #[error("no answer within {0:?}; the transaction may or may not have committed")]
    Deadline(std::time::Duration),
    #[error("the rows of the request have more than {0} bytes together; it is repeated with fewer of them")]
    TooMuch(usize),
    #[error("another process holds the lease of the stream; this one wrote nothing and stands by")]
    Lease,
    #[error("another session inserted a row with the same id during the merge; the merge begins again")]
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
    #[error(
        "cannot decode the record of chunk {0}: {1}; use the version of chunk-sync that wrote it, or restore its row of \
         chunk_sync.records from a backup"
    )]
    Record(uuid::Uuid, chunk_sync_model::record::RecordError),
    #[error("cannot decode conflict {0}: {1}; delete its row of chunk_sync.conflicts to list the others")]
    Conflict(u64, String),
}

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
            Self::Client(error) => failure::class(error),
            // The events of the chunk wait beside the bus until the operator has decided.
            Self::OtherTable(..) => FaultClass::Busy,
            Self::NoConnection | Self::Overtaken | Self::Lease => FaultClass::Busy,
            Self::SlowConnection | Self::Deadline(_) => FaultClass::Timeout,
            Self::Fenced(fault) => fault.class,
            // A single row is read whatever its length, so no operation is refused for this.
            Self::Skipped(..) | Self::TooMuch(_) => FaultClass::Rejected,
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

    /// The SQLSTATE, if the server answered the error.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Client(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the session takes no writes.
    pub(super) fn is_read_only(&self) -> bool {
        self.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let fault = Fault::new(self.class(), context, &self);
        let (column, code) = match &self {
            Self::Fenced(fenced) => return fenced.clone(),
            Self::Client(error) => (error.as_db_error().and_then(DbError::column), error.code()),
            _ => (None, None),
        };
        let awaits_parent = code == Some(&SqlState::FOREIGN_KEY_VIOLATION);
        let fault = Fault { awaits_parent, divisible: matches!(self, Self::TooMuch(_)), ..fault };
        let (column, code) = (column.map(field), code.map(|code| code.code().to_owned()));
        let fault = fault.caused_by(self, code);
        match column {
            Some(column) => fault.at(column),
            None => fault,
        }
    }
}
