//! Configuration: defaults, overridden by a file, overridden by the environment; validated once into [`Config`].
//!
//! The commented file `config/chunk-sync.toml` is compiled in and is the schema: a key that it does not contain is
//! unknown, and a value must have the type of its default. `read.rs` interprets the values.

mod address;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod layers;
mod read;
mod reader;
mod show;
mod table_name;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chunk_sync_connectors::TlsFiles;
use chunk_sync_connectors::postgres::{Plugin, Publish};
use chunk_sync_engine::Settings;
use chunk_sync_engine::scrub::ScrubSettings;
use secrecy::SecretString;

use crate::printable::printable;

pub use address::Address;
pub use layers::{Entry, Layers, Origin};

/// Every option with its default and a comment.
pub const DEFAULTS: &str = include_str!("../../../config/chunk-sync.toml");

/// The environment variable that names the configuration file.
pub const FILE_VARIABLE: &str = "CHUNK_SYNC_CONFIG";

/// The file that is read if none is named and it exists in the working directory.
pub const FILE: &str = "chunk-sync.toml";

/// The validated configuration.
#[derive(Debug)]
pub struct Config {
    /// Where each role is kept.
    pub roles: Roles,
    /// The settings of the engine.
    pub settings: Settings,
    /// Settings of the scrubber; `None` if it is disabled.
    pub scrub: Option<ScrubSettings>,
    /// The HTTP server.
    pub http: Http,
    /// The log lines on standard error.
    pub log: Log,
}

/// Where each role is kept: in a server if its URL is set. If no URL is set, all roles are in the embedded file.
#[derive(Debug)]
pub struct Roles {
    /// The directory of the embedded file, which holds the rows and records if `postgres` is `None`.
    pub dir: PathBuf,
    /// Rows and records, and the bus if `redis` is `None`.
    pub postgres: Option<Postgres>,
    /// The bus.
    pub redis: Option<Redis>,
    /// The vectors. If `None`, the installation has no vectors, unless all roles are embedded.
    pub qdrant: Option<Qdrant>,
    /// The graph. If `None`, the installation has no graph, unless all roles are embedded.
    pub neo4j: Option<Neo4j>,
    /// Whether connections to other machines are allowed without TLS or password.
    pub allow_insecure: bool,
}

impl Roles {
    /// Whether no URL is set: every role is in the embedded file.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.postgres.is_none() && self.redis.is_none() && self.qdrant.is_none() && self.neo4j.is_none()
    }

    /// Whether rows and records are in the embedded file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.postgres.is_none()
    }
}

/// PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    /// URL for statements.
    pub url: Address,
    /// URL for the replication connection; equal to `url` if not configured.
    pub replication_url: Address,
    /// The schema of the table of chunks.
    pub schema: String,
    /// The name of the table of chunks.
    pub table: String,
    /// The publication that capture reads.
    pub publication: String,
    /// Which columns a new publication has.
    pub publish: Publish,
    /// The replication slot.
    pub slot: String,
    /// The output plugin of the slot.
    pub plugin: Plugin,
}

/// Redis.
#[derive(Debug)]
pub struct Redis {
    /// The server, or, with Sentinels, the name of their master.
    pub url: Address,
    /// `host:port` of each Sentinel.
    pub sentinels: Vec<String>,
    /// The user of the Sentinels, if they have an own one.
    pub sentinel_user: Option<String>,
    /// The password that the Sentinels require.
    pub sentinel_password: Option<SecretString>,
    /// The stream of events.
    pub stream: String,
    /// The stream of dead letters.
    pub dead_stream: String,
    /// The consumer group of the workers.
    pub group: String,
    /// Whether groups of other programs that make no progress for 24 h no longer hold the trimming up.
    pub trim_past_idle_groups: bool,
    /// The certificates of TLS.
    pub tls: TlsFiles,
}

/// Qdrant.
#[derive(Debug)]
pub struct Qdrant {
    /// URL of the server's gRPC port.
    pub url: Address,
    /// API key, if the server requires one.
    pub api_key: Option<SecretString>,
    /// The collection of chunks.
    pub collection: String,
}

/// Neo4j.
#[derive(Debug)]
pub struct Neo4j {
    /// URL of the server's Bolt port.
    pub url: Address,
    /// The user's name.
    pub user: String,
    /// The user's password, if the server requires one.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// The certificates of TLS.
    pub tls: TlsFiles,
}

/// The HTTP server.
#[derive(Debug)]
pub struct Http {
    /// Address on which the server listens.
    pub listen: SocketAddr,
    /// Bearer token that `POST /v1/events` requires; without one, it is disabled.
    pub token: Option<SecretString>,
    /// Host names besides localhost that requests may use.
    pub hosts: Vec<String>,
    /// Maximum number of requests per second from one address; 0 for no limit.
    pub requests_per_second: u32,
}

/// The log lines on standard error.
#[derive(Debug)]
pub struct Log {
    /// The filter: a level, or levels per module.
    pub filter: String,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// An error in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, such as `http.listen`; for an error of a whole file, its path.
    pub key: String,
    /// The layer that set the value.
    pub origin: Origin,
    /// What is wrong and what is valid. Never contains the value of a secret.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.origin {
            Origin::Default => Ok(()),
            Origin::File(path) if path.as_os_str() == self.key.as_str() => Ok(()),
            origin => write!(f, " (set in {origin})"),
        }
    }
}

/// The configuration is invalid; lists every error.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<Finding>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            // Each on a line of its own, whatever the file and the variables contain.
            [one] => f.write_str(&printable(&one.to_string())),
            many => {
                write!(f, "{} errors in the configuration:", many.len())?;
                many.iter().try_for_each(|finding| write!(f, "\n  {}", printable(&finding.to_string())))
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Reads the configuration: defaults, overridden by `file`, overridden by the variables in `environment` that begin with
/// `CHUNK_SYNC__`. If `file` is `None`, [`FILE_VARIABLE`] names it; else [`FILE`] is read if it exists.
///
/// # Errors
/// [`Refused`], which lists every error: a file that cannot be read or parsed, an unknown key, a value of the wrong type or
/// out of range. Ranges are checked only if there is no error of the other kinds.
pub fn load(file: Option<&Path>, environment: &[(String, String)]) -> Result<(Config, Layers), Refused> {
    let mut layers = Layers::defaults();
    let mut findings = Vec::new();
    let named = file.map(Path::to_owned).or_else(|| {
        let variable = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
        variable.map(|(_, path)| PathBuf::from(path))
    });
    let path = named.or_else(|| Some(PathBuf::from(FILE)).filter(|path| path.exists()));
    if let Some(path) = path {
        layers.file(&path, &mut findings);
    }
    layers.environment(environment, &mut findings);
    if findings.is_empty() {
        let config = read::read(&layers).map_err(Refused)?;
        Ok((config, layers))
    } else {
        Err(Refused(findings))
    }
}

/// The environment of this process. Bytes that are not UTF-8 are replaced.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests;
