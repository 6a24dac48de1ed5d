//! The settings of capture.

use std::time::Duration;

use secrecy::SecretString;

use super::wal2json;
use crate::postgres::config::PostgresConfig;
use crate::postgres::publication::Publish;

/// What to read from the log, and how.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// URL of the replication connection.
    pub url: SecretString,
    /// The publication of the table of chunks.
    pub publication: String,
    /// Which columns a new publication has.
    pub publish: Publish,
    /// The replication slot, which keeps the confirmed position.
    pub slot: String,
    /// The output plugin of the slot.
    pub plugin: Plugin,
    /// After this silence of the server the replication connection is given up; at least as long as the server's
    /// `wal_sender_timeout`, because an idle server sends twice within it.
    pub silence: Duration,
}

impl CaptureConfig {
    /// The silence after which a replication connection is given up by default.
    pub const SILENCE: Duration = Duration::from_secs(60);

    /// Configuration of the replication connection, with the same security as the connection to the rows.
    pub(in crate::postgres) fn link(&self, rows: &PostgresConfig) -> PostgresConfig {
        PostgresConfig { url: self.url.clone(), ..rows.clone() }
    }
}

/// The output plugin that decodes the server's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plugin {
    /// Built into every server.
    #[default]
    Pgoutput,
    /// Must be installed on the server.
    Wal2Json,
}

impl Plugin {
    /// The name, on the server and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pgoutput => "pgoutput",
            Self::Wal2Json => wal2json::NAME,
        }
    }
}
