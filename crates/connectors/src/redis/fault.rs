//! Maps errors of Redis to the fault classes of the engine.

use chunk_sync_engine::ports::{Fault, FaultClass};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::tls;

/// Error of a call to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("unexpected answer of the server: {0}")]
    Answer(&'static str),
    #[error(
        "no Sentinel names the master `{name}` ({refusals}); check redis.sentinels, and the master's name in redis.url"
    )]
    Sentinel { name: String, refusals: String },
    #[error("the server that the Sentinels name is not the master yet, or no longer; wait for the failover to end")]
    NotTheMaster,
    #[error(
        "the Sentinels name the master `{0}`, which is on another machine, and the connection to it has no verified TLS; \
         use rediss:// with a password, or set allow_insecure = true if the network is trusted"
    )]
    Insecure(String),
    #[error("{0}")]
    Setup(String),
    #[error("the task that waits for entries ended early: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl Error {
    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let ((class, remedy), code) = match &self {
            Self::Redis(error) => (class(error), code(error)),
            Self::Answer(_) => ((FaultClass::Corrupt, String::new()), None),
            Self::Insecure(_) | Self::Setup(_) => ((FaultClass::Misconfigured, String::new()), None),
            Self::Sentinel { .. } | Self::NotTheMaster | Self::Interrupted(_) => {
                ((FaultClass::Unavailable, String::new()), None)
            }
        };
        let fault = match (self.of_certificates(), remedy.as_str()) {
            (Some(text), _) => Fault::new(FaultClass::Misconfigured, context, text),
            (None, "") => Fault::new(class, context, &self),
            (None, remedy) => Fault::new(class, context, format!("{self}; {remedy}")),
        };
        fault.caused_by(self, code)
    }

    /// What is wrong with the certificates, if that is the error.
    pub(super) fn of_certificates(&self) -> Option<String> {
        match self {
            Self::Redis(error) => tls::explain(error, "redis"),
            _ => None,
        }
    }

    /// Whether the connection failed, not the command.
    pub(super) fn is_of_transport(&self) -> bool {
        matches!(self, Self::Redis(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse))
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

fn class(error: &RedisError) -> (FaultClass, String) {
    let (class, remedy) = known(error);
    match code(error).as_deref() {
        Some("NOPERM") => (class, rights_remedy(error)),
        // A script reports a missing right without a code of its own.
        _ if error.to_string().contains("The user executing the script can't") => {
            (FaultClass::Denied, rights_remedy(error))
        }
        Some("MOVED") => {
            let node = error.redirect_node().map_or("the node that has the streams", |(node, _)| node);
            (
                class,
                format!(
                    "the server is part of a Redis Cluster, and the streams are on another node: set redis.url to {node}"
                ),
            )
        }
        _ => (class, remedy.to_owned()),
    }
}

/// The server names the command, or that it is a key.
fn rights_remedy(error: &RedisError) -> String {
    let text = error.to_string();
    let command =
        text.split_once("to run the '").and_then(|(_, rest)| rest.split_once('\'')).map(|(command, _)| command);
    let rule = match command {
        Some(command) => format!("the rule +{command}"),
        None if text.contains("command or subcommand") => "the rules for the commands of the scripts".to_owned(),
        None => "the rule for the keys of the streams".to_owned(),
    };
    format!("grant the user {rule} by ACL SETUSER; `chunk-sync init --dry-run` prints all rules")
}

fn known(error: &RedisError) -> (FaultClass, &'static str) {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => return (FaultClass::Timeout, ""),
        ErrorKind::Io | ErrorKind::Parse => return (FaultClass::Unavailable, ""),
        ErrorKind::AuthenticationFailed => return (FaultClass::Denied, "check user and password in redis.url"),
        _ => {}
    }
    match code(error).as_deref().unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" => (FaultClass::Denied, "check user and password in redis.url"),
        "NOPERM" => (FaultClass::Denied, ""),
        "OOM" => (FaultClass::Busy, "let the workers catch up, or raise maxmemory"),
        "BUSY" | "TRYAGAIN" => (FaultClass::Busy, ""),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => (FaultClass::Unavailable, ""),
        "READONLY" => {
            (FaultClass::Unavailable, "set redis.url to the primary, or redis.sentinels: this server is a replica")
        }
        "CROSSSLOT" => (
            FaultClass::Misconfigured,
            "in a Redis Cluster both streams need one hash tag, as in {chunk}:sync:stream and {chunk}:sync:dead",
        ),
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
