//! Connection settings.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use secrecy::{ExposeSecret, SecretString};

use super::bolt::Address;
use crate::remote::{insecure, is_loopback};

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

    /// The address of the server.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL has another scheme than `bolt`, `bolt+s`, `neo4j` or
    /// `neo4j+s`, or contains a user name or password, or if the server is on another machine, lacks TLS or a password,
    /// and `allow_insecure` is off.
    pub(super) fn address(&self) -> Result<Address, Fault> {
        let address = Address::parse(&self.url)
            .map_err(|error| Fault::new(FaultClass::Misconfigured, "neo4j: address", error))?;
        let authenticated = !self.user.is_empty() && !self.password.expose_secret().is_empty();
        if is_loopback(&address.host) || (address.tls && authenticated) {
            return Ok(address);
        }
        let missing = if address.tls { "user and password" } else { "verified TLS" };
        let remedy = "bolt+s:// or neo4j+s:// with user and password";
        insecure("neo4j: address", &address.host, missing, remedy, self.allow_insecure)?;
        Ok(address)
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
            assert!(config(url, "").address().is_ok(), "{url}");
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
            assert_eq!(config(url, password).address().err().unwrap().class, FaultClass::Misconfigured, "{url}");
            assert!(Neo4jConfig { allow_insecure: true, ..config(url, password) }.address().is_ok(), "{url}");
        }
        assert!(config("bolt+s://db.example:7687", "pw").address().is_ok());
    }
}
