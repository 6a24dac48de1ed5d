//! Connection settings, and their translation for the client.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use neo4rs::ConfigBuilder;
use secrecy::{ExposeSecret, SecretString};

use crate::remote::{insecure, is_loopback};

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
    /// Whether a server on another machine may be used without TLS or without a password.
    pub allow_insecure: bool,
}

impl Neo4jConfig {
    /// The default of [`timeout`](Self::timeout).
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// The configuration of the client library.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL has another scheme than `bolt`, `bolt+s`, `neo4j` or
    /// `neo4j+s`, contains a user name or password, or is refused by the client library, or if the server is on another
    /// machine, lacks TLS or a password, and `allow_insecure` is off.
    pub(super) fn client(&self) -> Result<neo4rs::Config, Fault> {
        let invalid = |error: String| Fault::new(FaultClass::Misconfigured, "neo4j: address", error);
        let scheme_and_rest = self.url.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme));
        // The messages do not quote the URL, because it may contain a password.
        let Some((scheme, rest)) = scheme_and_rest else {
            return Err(invalid(format!("invalid URL; it must begin with {}://", SCHEMES.join(":// or "))));
        };
        if rest.contains('@') {
            return Err(invalid(
                "the URL contains a user name or password; remove it and set `user` and `password`".to_owned(),
            ));
        }
        self.check_secure(scheme, rest)?;
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

    fn check_secure(&self, scheme: &str, rest: &str) -> Result<(), Fault> {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let verified = scheme.ends_with("+s");
        let authenticated = !self.user.is_empty() && !self.password.expose_secret().is_empty();
        if is_loopback(host) || (verified && authenticated) {
            return Ok(());
        }
        let missing = if verified { "user and password" } else { "verified TLS" };
        insecure("neo4j: address", host, missing, "bolt+s:// or neo4j+s:// with user and password", self.allow_insecure)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config(url: &str, password: &str) -> Neo4jConfig {
        Neo4jConfig {
            url: url.to_owned(),
            user: "neo4j".to_owned(),
            password: password.into(),
            database: "neo4j".to_owned(),
            timeout: Neo4jConfig::TIMEOUT,
            allow_insecure: false,
        }
    }

    #[test]
    fn loopback_needs_neither_tls_nor_password() {
        for url in ["bolt://127.0.0.1:7687", "neo4j://localhost", "bolt://[::1]:7687", "bolt://[::1]"] {
            assert!(config(url, "").client().is_ok(), "{url}");
        }
    }

    #[test]
    fn another_machine_needs_verified_tls_and_a_password() {
        for (url, password) in [
            ("bolt://db.example:7687", "pw"),
            ("neo4j://10.0.0.7", "pw"),
            ("bolt+s://db.example:7687", ""),
            ("neo4j+s://[2001:db8::1]:7687", ""),
            ("bolt+s://127.0.0.1.db.example", ""),
        ] {
            assert_eq!(config(url, password).client().err().unwrap().class, FaultClass::Misconfigured, "{url}");
            assert!(Neo4jConfig { allow_insecure: true, ..config(url, password) }.client().is_ok(), "{url}");
        }
        assert!(config("bolt+s://db.example:7687", "pw").client().is_ok());
    }
}
