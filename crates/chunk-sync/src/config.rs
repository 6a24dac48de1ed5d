//! Configuration: defaults, then a file, then the environment, checked once into a type without doubts.
//!
//! The commented file `config/chunk-sync.toml` is compiled in and is the schema: a key that does not stand there is
//! unknown, and the kind of its default is the kind it must have. What a value means is said in `read.rs`.

mod address;
mod layers;
mod read;
mod reader;
mod show;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chunk_sync_connectors::postgres::Plugin;
use chunk_sync_engine::Settings;
use chunk_sync_engine::scrub::ScrubSettings;
use secrecy::SecretString;

pub use address::Address;
pub use layers::{Entry, Layers, Origin};

/// Every option with its default and a comment.
pub const DEFAULTS: &str = include_str!("../../../config/chunk-sync.toml");

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "CHUNK_SYNC_CONFIG";

/// The file that is read where nothing else is named, if it is there.
pub const FILE: &str = "chunk-sync.toml";

/// What the service is to do; every value has been checked.
#[derive(Debug)]
pub struct Config {
    /// Where each role is kept.
    pub roles: Roles,
    /// What the engine is told.
    pub settings: Settings,
    /// How the stores are compared while the service runs; `None` where they are not.
    pub scrub: Option<ScrubSettings>,
    /// The HTTP server.
    pub http: Http,
    /// The log for people.
    pub log: Log,
}

/// Where each role is kept: in a server if its URL is set. Without any URL all of them are in the embedded file.
#[derive(Debug)]
pub struct Roles {
    /// The directory of the embedded file, which has the rows and records where PostgreSQL is not set.
    pub dir: PathBuf,
    /// Rows and records, and the bus where Redis is not set.
    pub postgres: Option<Postgres>,
    /// The bus.
    pub redis: Option<Redis>,
    /// The vectors; without it the installation has none, unless everything is embedded.
    pub qdrant: Option<Qdrant>,
    /// The graph; without it the installation has none, unless everything is embedded.
    pub neo4j: Option<Neo4j>,
    /// Other machines may be spoken to without TLS or password.
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
    /// For statements.
    pub url: Address,
    /// For the replication connection.
    pub replication_url: Address,
    /// The schema of the table of chunks.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The publication that capture reads.
    pub publication: String,
    /// The replication slot.
    pub slot: String,
    /// The plugin that it is read by.
    pub plugin: Plugin,
}

/// Redis.
#[derive(Debug)]
pub struct Redis {
    /// The server.
    pub url: Address,
    /// The stream of events.
    pub stream: String,
    /// The stream of dead letters.
    pub dead_stream: String,
    /// The group of workers.
    pub group: String,
}

/// Qdrant.
#[derive(Debug)]
pub struct Qdrant {
    /// The server's gRPC port.
    pub url: Address,
    /// Its key, where it wants one.
    pub api_key: Option<SecretString>,
    /// The collection of chunks.
    pub collection: String,
}

/// Neo4j.
#[derive(Debug)]
pub struct Neo4j {
    /// The server's Bolt port.
    pub url: Address,
    /// The user's name.
    pub user: String,
    /// The user's password, where one is wanted.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
}

/// The HTTP server.
#[derive(Debug)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What `POST /v1/events` must bring.
    pub token: Option<SecretString>,
    /// Names besides localhost by which it may be called.
    pub hosts: Vec<String>,
}

/// The log for people.
#[derive(Debug)]
pub struct Log {
    /// What is logged: a level, or levels per module.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, such as `http.listen`; of a whole file, its name.
    pub key: String,
    /// Where the value was set.
    pub origin: Origin,
    /// What is wrong, and what would be right. Never a secret's value.
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

/// The configuration is refused, with every reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<Finding>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => one.fmt(f),
            many => {
                write!(f, "{} values are wrong", many.len())?;
                many.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Reads the configuration: defaults, then `file`, then the variables of `environment` that begin with
/// `CHUNK_SYNC__`. Where `file` is `None`, [`FILE_VARIABLE`] names it, else [`FILE`] is read if it is there.
///
/// # Errors
/// Everything that is wrong with it.
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

/// The environment of this process, as far as it can be read as text.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests;
