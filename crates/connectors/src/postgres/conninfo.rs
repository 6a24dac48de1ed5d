//! Where and how to connect, by the rules of libpq: URL and keyword/value strings, lists of hosts, service files, the
//! `PG*` variables, password files. Pure: files and variables are read in `surroundings` only, and what is refused is
//! refused before anything is sent.
//!
//! Source: PostgreSQL's manual, "Database Connection Control Functions", "Environment Variables", "The Password File",
//! "The Connection Service File", "SSL Support".
//!
//! Two rules differ from libpq. The service writes, so of several hosts the primary is meant, whatever order they stand in.
//! And off this machine `sslmode` is raised: without a root certificate `require` and weaker modes verify the server as
//! `verify-full` does with the certificates that the system trusts, unless `allow_insecure` is set.

mod files;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod hosts;
mod keywords;
mod resolve;
mod shown;
mod surroundings;
mod syntax;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

pub(super) use resolve::resolve;
pub use shown::Shown;
pub(super) use surroundings::Surroundings;

/// A string that cannot be served: the problem and what to write instead. Never shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// A resolved description of one or several servers.
#[derive(Clone, Debug)]
pub(super) struct ConnInfo {
    /// In the order in which they are tried; never empty.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) user: String,
    pub(super) database: String,
    /// Command-line options for the session, as the string has them.
    pub(super) options: Option<String>,
    pub(super) application_name: Option<String>,
    /// Per address; `None` for the limit of the service.
    pub(super) connect_timeout: Option<Duration>,
    pub(super) session: Session,
    pub(super) tls: Tls,
    pub(super) channel_binding: Binding,
    pub(super) keepalive: Keepalive,
}

/// A server of the list.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) password: Option<SecretString>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, which the certificate must show, or an address; with `address` the name is not looked up.
    Tcp { name: String, address: Option<IpAddr> },
    /// The directory of a Unix socket. A first character `@` stands for Linux' abstract namespace.
    Unix(PathBuf),
}

/// `target_session_attrs`, as far as it applies to a service that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Session {
    /// Of several servers the primary; a single one is taken as it is.
    #[default]
    Any,
    /// Not in recovery, and takes writes.
    ReadWrite,
    /// Not in recovery.
    Primary,
}

/// `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The settings of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// As it was written; `None` if it was not.
    pub(super) mode: Option<Mode>,
    pub(super) roots: Roots,
    /// Files of the client's certificate and its key.
    pub(super) client: Option<ClientCertificate>,
    pub(super) sends_name: bool,
    /// TLS begins without a request in PostgreSQL's protocol.
    pub(super) is_direct: bool,
    pub(super) versions: Versions,
}

/// The authorities that may sign the certificate of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Roots {
    /// None named: the file of libpq does not exist either.
    #[default]
    Unnamed,
    /// Those that the system trusts, or those in `SSL_CERT_FILE`.
    System,
    File(PathBuf),
}

/// `sslcert` and `sslkey`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientCertificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The permitted versions of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Versions {
    #[default]
    All,
    Only12,
    Only13,
}

/// `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Binding {
    Disable,
    #[default]
    Prefer,
    Require,
}

/// `keepalives` and what belongs to it; `None` for the value of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keepalive {
    pub(super) enabled: bool,
    pub(super) idle: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u32>,
    pub(super) user_timeout: Option<Duration>,
}

impl Host {
    /// Whether the connection stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { address: Some(address), .. } => address.is_loopback(),
            Self::Tcp { name, .. } => crate::remote::is_loopback(name),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
            Host::Unix(directory) => write!(f, "{}", hosts::socket(directory, self.port).display()),
        }
    }
}

impl Endpoint {
    /// The path of the socket.
    pub(super) fn socket(directory: &std::path::Path, port: u16) -> PathBuf {
        hosts::socket(directory, port)
    }
}
