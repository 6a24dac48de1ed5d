//! Connection settings.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::TlsConnector;

use super::bolt::{Address, Security};
use crate::remote::{insecure, is_loopback};
use crate::tls::{self, TlsFiles};

/// Connection settings of one Neo4j database.
#[derive(Clone, Debug)]
pub struct Neo4jConfig {
    /// `bolt://host:7687` for this one server, `neo4j://host:7687` for the leader of its cluster; either with `+s` for
    /// TLS, or `+ssc` for TLS with any certificate. Must not contain a user name or password.
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
    /// The certificates of TLS.
    pub tls: TlsFiles,
    /// Whether a server on another machine may be used without TLS or without a password.
    pub allow_insecure: bool,
}

impl Neo4jConfig {
    /// The default of [`timeout`](Self::timeout).
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// The address of the server.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL has another scheme than these, or contains a user name or password, or if the server is on another machine, lacks TLS or a password,
    /// and `allow_insecure` is off.
    pub(super) fn address(&self) -> Result<Address, Fault> {
        let address = Address::parse(&self.url)
            .map_err(|error| Fault::new(FaultClass::Misconfigured, "neo4j: address", error))?;
        let authenticated = !self.user.is_empty() && !self.password.expose_secret().is_empty();
        let verified = address.security == Security::Verified;
        if is_loopback(&address.host) || (verified && authenticated) {
            return Ok(address);
        }
        let missing = if verified { "user and password" } else { "verified TLS" };
        let remedy = "bolt+s:// or neo4j+s:// with user and password";
        insecure("neo4j: address", &address.host, missing, remedy, self.allow_insecure)?;
        Ok(address)
    }

    /// Whether the URL is accepted. Host and port are then those that a routing table would name.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn is_accepted(&self) -> bool {
        let Ok(address) = self.address() else { return false };
        assert_eq!(address.at(&address.authority()), Ok(address), "{}", self.url);
        true
    }

    /// What connects with TLS to that address; `None` if its scheme has none.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if a file of certificates cannot be read.
    pub(super) fn connector(&self, address: &Address) -> Result<Option<TlsConnector>, Fault> {
        if address.security == Security::Plain {
            return Ok(None);
        }
        let config = tls::client(&self.tls, address.security == Security::Verified)
            .map_err(|error| Fault::new(FaultClass::Misconfigured, "neo4j: certificates", error))?;
        Ok(Some(TlsConnector::from(Arc::new(config))))
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
            tls: TlsFiles::default(),
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
            ("neo4j+ssc://db.example", "pw"),
            ("bolt+s://127.0.0.1.db.example", ""),
        ] {
            assert_eq!(config(url, password).address().err().unwrap().class, FaultClass::Misconfigured, "{url}");
            assert!(Neo4jConfig { allow_insecure: true, ..config(url, password) }.address().is_ok(), "{url}");
        }
        assert!(config("bolt+s://db.example:7687", "pw").address().is_ok());
    }
}
