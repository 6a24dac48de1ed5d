//! Connection settings, and their translation for the client.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use neo4rs::ConfigBuilder;
use secrecy::{ExposeSecret, SecretString};

/// Accepted URL schemes; `+s` is TLS with certificate verification. `+ssc` is not accepted, because it verifies
/// nothing.
const SCHEMES: [&str; 4] = ["bolt", "bolt+s", "neo4j", "neo4j+s"];

/// Maximum number of connections in the pool, idle ones included.
const CONNECTIONS: usize = 8;

/// Rows requested by one PULL message. Documents are fetched batch by batch.
const FETCH: usize = 1000;

/// Connection settings of one Neo4j database.
#[derive(Clone, Debug)]
pub struct Neo4jConfig {
    /// `bolt://host:7687`, `neo4j://host:7687`, or either with `+s` for TLS. With every scheme the client connects to
    /// this one server only. Must not contain a user name or password.
    pub url: String,
    /// The user name.
    pub user: String,
    /// The password; empty if the server requires none.
    pub password: SecretString,
    /// The name of the database.
    pub database: String,
    /// Deadline of one transaction. `apply` may run several; `prepare` gives the creation of a constraint 30 minutes at
    /// least.
    pub timeout: Duration,
}

impl Neo4jConfig {
    /// The default of [`timeout`](Self::timeout).
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// The configuration of the client library.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL has another scheme than `bolt`, `bolt+s`, `neo4j` or
    /// `neo4j+s`, contains a user name or password, or is refused by the client library.
    pub(super) fn client(&self) -> Result<neo4rs::Config, Fault> {
        let invalid = |error: String| Fault::new(FaultClass::Misconfigured, "neo4j: address", error);
        let scheme_and_rest = self.url.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme));
        // The messages do not quote the URL, because it may contain a password.
        let Some((_, rest)) = scheme_and_rest else {
            return Err(invalid(format!("invalid URL; it must begin with {}://", SCHEMES.join(":// or "))));
        };
        if rest.contains('@') {
            return Err(invalid(
                "the URL contains a user name or password; remove it and set `user` and `password`".to_owned(),
            ));
        }
        ConfigBuilder::default()
            .uri(self.url.as_str())
            .user(self.user.as_str())
            .password(self.password.expose_secret())
            .db(self.database.as_str())
            .fetch_size(FETCH)
            .max_connections(CONNECTIONS)
            .connection_timeout(self.timeout)
            .build()
            .map_err(|error| invalid(error.to_string()))
    }
}
