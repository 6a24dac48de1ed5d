//! Why a server refused a statement or no connection could be opened: texts and fault classes of what the client, the
//! server and TLS report.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use chunk_sync_engine::ports::FaultClass;
use tokio_postgres::error::{DbError, SqlState};

use super::sqlstate;
use super::tls::{TlsFailure, alert};

/// What to do when the database takes no writes.
pub(super) const READ_ONLY: &str = "a host sets default_transaction_read_only when the disk is almost full: make room, or \
    lift it; the service then goes on by itself";

/// The server's message, SQLSTATE and hint. Never its detail, which may quote the row.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(failure) = carried(error) {
        return failure.to_string();
    }
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
pub(super) fn hides_rows(error: &DbError) -> bool {
    error.routine() == Some("check_enable_rls")
}

/// The class of an error of the client.
pub(super) fn class(error: &tokio_postgres::Error) -> FaultClass {
    if let Some(failure) = carried(error) {
        return failure.class;
    }
    if error.as_db_error().is_some_and(hides_rows) {
        return FaultClass::Misconfigured;
    }
    if let Some(code) = error.code() {
        return sqlstate::class(code.code());
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match (io, error.to_string().as_str()) {
        (Some(io::ErrorKind::TimedOut), _) => FaultClass::Timeout,
        (_, text) if text.starts_with("error performing TLS") => FaultClass::Misconfigured,
        (_, text) if text.starts_with("invalid configuration") => FaultClass::Misconfigured,
        (_, text) if text.starts_with("authentication error") => FaultClass::Denied,
        (_, text) if text.starts_with("error serializing parameter") => FaultClass::Rejected,
        (_, text) if text.starts_with("error deserializing column") => FaultClass::Corrupt,
        // The connection broke, or could not be opened.
        _ => FaultClass::Unavailable,
    }
}

/// The fields of an error of the server that are shown. Not its detail, which may quote a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code}){}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub(super) struct ServerError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Why an attempt to connect failed, or a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("cannot look up its address: {0}; check the host name in the URL")]
    Lookup(io::Error),
    #[error("{0}")]
    Socket(io::Error),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{0}")]
    Tls(String),
    #[error("the server does not support TLS; enable ssl on the server, or write sslmode=disable")]
    NoTls,
    #[error("{0}")]
    Server(ServerError),
    #[error("{}", text(.0))]
    Client(tokio_postgres::Error),
    #[error("it is a standby and takes no writes")]
    Standby,
    #[error("its sessions are read-only, and target_session_attrs=read-write refuses that")]
    ReadOnly,
    #[error("{0}")]
    Login(String),
    #[error("{0}")]
    Protocol(String),
}

impl Cause {
    /// An error of an open connection.
    pub(super) fn broken(error: io::Error) -> Self {
        tls_text(&error).map_or(Self::Socket(error), Self::Tls)
    }

    /// An error of the client, which wraps those of TLS.
    pub(super) fn of_client(error: tokio_postgres::Error) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io.and_then(tls_text) {
            Some(text) => Self::Tls(text),
            None => Self::Client(error),
        }
    }

    /// The SQLSTATE that the server sent.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            Self::Client(error) => error.code().map(SqlState::code),
            _ => None,
        }
    }

    /// Whether the server refused the login or the database: another server is not asked then.
    pub(super) fn is_refusal(&self) -> bool {
        let refuses = |code: &str| code.starts_with("28") || code.starts_with("3D");
        matches!(self, Self::Login(_)) || self.code().is_some_and(refuses)
    }

    /// Whether the attempt may succeed with, or without, TLS: the rules of `pg_hba.conf` distinguish the two.
    pub(super) fn may_depend_on_encryption(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::NoTls) || self.code() == Some("28000")
    }

    pub(super) fn class(&self) -> FaultClass {
        match self {
            Self::Lookup(_) | Self::Socket(_) | Self::Standby | Self::ReadOnly | Self::Protocol(_) => {
                FaultClass::Unavailable
            }
            Self::Timeout(_) => FaultClass::Timeout,
            Self::Tls(_) | Self::NoTls => FaultClass::Misconfigured,
            Self::Server(error) => sqlstate::class(&error.code),
            Self::Client(error) => class(error),
            Self::Login(_) => FaultClass::Denied,
        }
    }
}

/// The failure of TLS inside an error of a connection.
fn tls_text(error: &io::Error) -> Option<String> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFailure>()) {
        Some(TlsFailure(text)) => Some(text.clone()),
        None => alert(error),
    }
}

/// Why none of the servers could be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct LinkFailure {
    text: String,
    pub(super) class: FaultClass,
    /// The SQLSTATE with which the last server refused.
    pub(super) code: Option<String>,
}

impl LinkFailure {
    /// The causes by endpoint, in the order of the attempts.
    pub(super) fn of(failures: &[(String, Cause)]) -> Self {
        let texts: Vec<String> = failures.iter().map(|(endpoint, cause)| format!("{endpoint}: {cause}")).collect();
        let no_primary = failures.len() > 1 && failures.iter().any(|(_, cause)| matches!(cause, Cause::Standby));
        let remedy = if no_primary { "; none is a primary that answers" } else { "" };
        // PgBouncer has one code for all its errors, also for those that pass.
        let no_options =
            texts.last().is_some_and(|text| text.contains("startup parameter") && text.contains("options"));
        let remedy =
            if no_options { "; a pooler refuses start-up options: remove `options` from the URL" } else { remedy };
        let classes =
            failures.iter().map(|(_, cause)| if no_options { FaultClass::Misconfigured } else { cause.class() });
        Self {
            text: format!("cannot connect to {}{remedy}", texts.join("; ")),
            class: classes.max_by_key(|class| weight(*class)).unwrap_or(FaultClass::Unavailable),
            code: failures.last().and_then(|(_, cause)| cause.code().map(str::to_owned)),
        }
    }
}

/// What needs an operator outweighs what may pass.
fn weight(class: FaultClass) -> u8 {
    match class {
        FaultClass::Unavailable => 0,
        FaultClass::Busy | FaultClass::Timeout => 1,
        _ => 2,
    }
}

/// The failure that an error of the client carries: `link` opens its connections, and the client has no kind of error for
/// that.
pub(super) fn carried(error: &tokio_postgres::Error) -> Option<&LinkFailure> {
    error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}
