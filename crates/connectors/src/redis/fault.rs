//! Maps errors of Redis to the fault classes of the engine.

use chunk_sync_engine::ports::{Fault, FaultClass};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Error of a call to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("unexpected answer of the server: {0}")]
    Answer(&'static str),
    #[error("the task that waits for entries ended early: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Error {
    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let ((class, remedy), code) = match &self {
            Self::Redis(error) => (class(error), code(error)),
            Self::Answer(_) => ((FaultClass::Corrupt, ""), None),
            Self::Interrupted(_) => ((FaultClass::Unavailable, ""), None),
        };
        let fault = match remedy {
            "" => Fault::new(class, context, &self),
            remedy => Fault::new(class, context, format!("{self}; {remedy}")),
        };
        fault.caused_by(self, code)
    }

    /// Whether the group or its stream does not exist.
    pub(super) fn is_no_group(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        code(error).as_deref() == Some("NOGROUP") || error.to_string().contains("no such key")
    }

    /// Whether the server's memory is full.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Redis(error) if code(error).as_deref() == Some("OOM"))
    }

    /// Whether the server has not loaded the script.
    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ServerErrorKind::NoScript.into())
    }

    /// Whether the connection broke. A timeout is not a broken connection.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_connection_dropped())
    }

    /// Whether the connection must not be used again: a later answer on it may belong to another command.
    pub(super) fn is_of_connection(&self) -> bool {
        let Self::Redis(error) = self else { return true };
        let kind = matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed);
        kind || code(error).as_deref() == Some("READONLY")
    }
}

/// Error code of the server, such as `NOGROUP`; of a pipeline, the first one.
fn code(error: &RedisError) -> Option<String> {
    let first = || error.clone().into_server_errors()?.first().map(|(_, error)| error.code().to_owned());
    error.code().map(str::to_owned).or_else(first)
}

fn class(error: &RedisError) -> (FaultClass, &'static str) {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => return (FaultClass::Timeout, ""),
        ErrorKind::Io | ErrorKind::Parse => return (FaultClass::Unavailable, ""),
        ErrorKind::AuthenticationFailed => return (FaultClass::Denied, "check user and password in redis.url"),
        _ => {}
    }
    match code(error).as_deref().unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" => (FaultClass::Denied, "check user and password in redis.url"),
        "NOPERM" => (FaultClass::Denied, "let the user read and write the keys of the streams and run scripts"),
        "OOM" => (FaultClass::Busy, "let the workers catch up, or raise maxmemory"),
        "BUSY" | "TRYAGAIN" => (FaultClass::Busy, ""),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => (FaultClass::Unavailable, ""),
        "READONLY" => (FaultClass::Unavailable, "set redis.url to the primary, this server is a replica"),
        "NOREPLICAS" => (FaultClass::Unavailable, "connect more replicas, or lower min-replicas-to-write"),
        "MISCONF" => (FaultClass::Misconfigured, "find the cause in the server's log; it cannot write to its disk"),
        "WRONGTYPE" => (FaultClass::Misconfigured, "the key is not a stream: choose other stream names"),
        _ if error.to_string().contains("max number of clients") => (FaultClass::Busy, ""),
        _ => (FaultClass::Misconfigured, ""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn class_of(kind: ErrorKind) -> FaultClass {
        Error::from(RedisError::from((kind, "test"))).into_fault("test").class
    }

    #[test]
    fn each_error_of_the_client_has_its_class() {
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert_eq!(Error::from(RedisError::from(late)).into_fault("test").class, FaultClass::Timeout);
        assert_eq!(class_of(ErrorKind::Io), FaultClass::Unavailable);
        assert_eq!(class_of(ErrorKind::AuthenticationFailed), FaultClass::Denied);
        assert_eq!(class_of(ErrorKind::Server(ServerErrorKind::ReadOnly)), FaultClass::Unavailable);
        assert_eq!(class_of(ErrorKind::Server(ServerErrorKind::BusyLoading)), FaultClass::Unavailable);
        assert_eq!(class_of(ErrorKind::Server(ServerErrorKind::NoPerm)), FaultClass::Denied);
    }
}
