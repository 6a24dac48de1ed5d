//! Connection settings. `conninfo` and `link` interpret the URL.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::Limits;
use secrecy::SecretString;

pub(super) const CONTEXT: &str = "postgres: configuration";

/// Address and settings of the system of record.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// A URL or a list of keywords, by the rules of libpq.
    pub url: SecretString,
    /// The schema of the table of chunks.
    pub schema: String,
    /// The name of the table of chunks.
    pub table: String,
    /// Time limit to open a connection, and part of the limit to wait for one of the pool.
    pub connect_timeout: Duration,
    /// Time limit of one statement. An operation of several statements may take twice as long.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// Most connections at the same time.
    pub pool_size: usize,
    /// The embedding models. `dense_vector` holds the vector of the first of them that a chunk has.
    pub limits: Arc<Limits>,
    /// Allows a server on another machine without verified TLS or without a password.
    pub allow_insecure: bool,
}

impl PostgresConfig {
    /// The default settings for the server at `url`.
    #[must_use]
    pub fn new(url: SecretString, limits: Arc<Limits>) -> Self {
        Self {
            url,
            schema: "unified".to_owned(),
            table: "chunks".to_owned(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            pool_size: 8,
            limits,
            allow_insecure: false,
        }
    }
}
