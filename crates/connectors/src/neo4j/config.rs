//! How the server is reached.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use neo4rs::ConfigBuilder;
use secrecy::{ExposeSecret, SecretString};

/// Schemes that are spoken: `+s` is TLS with verification. `+ssc` is not among them, because it verifies nothing.
const SCHEMES: [&str; 4] = ["bolt", "bolt+s", "neo4j", "neo4j+s"];

/// Connections at once, idle ones included.
const CONNECTIONS: usize = 8;

/// Rows that one message asks for; documents are fetched a batch at a time.
const FETCH: usize = 1000;

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct Neo4jConfig {
    /// `bolt://host:7687`, `neo4j://host:7687`, or either with `+s` for TLS. Whichever scheme, the one server named is
    /// spoken to. Without name and password.
    pub url: String,
    /// The user's name.
    pub user: String,
    /// The user's password; empty where the server wants none.
    pub password: SecretString,
    /// The database.
    pub database: String,
    /// How long one transaction, and so any call but a large `apply`, may take.
    pub timeout: Duration,
}

impl Neo4jConfig {
    /// The longest that one transaction may take unless another time is set.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// What the client is built from.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) where the address is none that is spoken.
    pub(super) fn client(&self) -> Result<neo4rs::Config, Fault> {
        let wrong = |error: String| Fault::new(FaultClass::Misconfigured, "neo4j: address", error);
        let place = self.url.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme)).map(|(_, place)| place);
        let Some(place) = place else {
            return Err(wrong(format!("no URL that begins with {}://", SCHEMES.join(":// or "))));
        };
        if place.contains('@') {
            return Err(wrong("name and password do not belong here: they have settings of their own".to_owned()));
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
            .map_err(|error| wrong(error.to_string()))
    }
}
