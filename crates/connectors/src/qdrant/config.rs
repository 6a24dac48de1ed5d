//! How the server is reached, and what is refused before anything is sent.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;
use qdrant_client::Qdrant;
use qdrant_client::config::QdrantConfig as ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::Uri;

use crate::remote::{insecure, is_loopback};

const CONTEXT: &str = "qdrant: configuration";

/// Connections, each of which carries any number of calls at once.
const CONNECTIONS: usize = 2;

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct QdrantConfig {
    /// Its gRPC port: `http://host:6334`, or `https://host:6334` for TLS.
    pub url: String,
    /// The server's key, where it wants one.
    pub api_key: Option<SecretString>,
    /// The collection.
    pub collection: String,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long it may take to get a connection.
    pub connect_timeout: Duration,
    /// Allows a server off loopback without TLS and a key.
    pub allow_insecure: bool,
    /// The embedding models: a named vector each.
    pub limits: Arc<Limits>,
}

impl QdrantConfig {
    /// The defaults for the server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>, limits: Arc<Limits>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            collection: "unified_chunks".to_owned(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            allow_insecure: false,
            limits,
        }
    }

    /// A client for this server. Connects to nothing yet.
    pub(super) fn client(&self) -> Result<Qdrant, Fault> {
        let uri = self.address()?;
        let key = self.key()?;
        self.check_secure(&uri, key.is_some())?;
        let mut client = ClientConfig::from_url(&self.url);
        client.api_key = key.map(str::to_owned);
        client.timeout = self.timeout;
        client.connect_timeout = self.connect_timeout;
        client.pool_size = CONNECTIONS;
        // It would print to standard output what it finds.
        client.check_compatibility = false;
        Qdrant::new(client).map_err(|error| misconfigured(error.to_string()))
    }

    fn address(&self) -> Result<Uri, Fault> {
        // Whatever is wrong with it, the address is not quoted: it may hold a password.
        let parsed = self.url.parse::<Uri>().ok();
        let spoken = parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let uri = spoken.ok_or_else(|| {
            misconfigured("the URL is none: write http://host:6334, or https://host:6334 for TLS".to_owned())
        })?;
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err(misconfigured("the URL holds a name or password, which Qdrant has not: set api_key".to_owned()))
            }
            _ => Ok(uri),
        }
    }

    /// The key, unless it is empty. What cannot stand in a header is refused here, because the client would quote it.
    fn key(&self) -> Result<Option<&str>, Fault> {
        let key = self.api_key.as_ref().map(ExposeSecret::expose_secret).filter(|key| !key.is_empty());
        match key {
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(misconfigured("api_key holds what no key can: blanks, or letters that are not ASCII".to_owned()))
            }
            key => Ok(key),
        }
    }

    fn check_secure(&self, uri: &Uri, keyed: bool) -> Result<(), Fault> {
        let host = uri.host().unwrap_or_default();
        let verified = uri.scheme_str() == Some("https");
        if is_loopback(host) || (verified && keyed) {
            return Ok(());
        }
        let missing = if verified { "api_key" } else { "verified TLS" };
        insecure(CONTEXT, host, missing, "https:// with an api_key", self.allow_insecure)
    }
}

fn misconfigured(message: String) -> Fault {
    Fault::new(FaultClass::Misconfigured, CONTEXT, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config(url: &str, key: Option<&str>) -> QdrantConfig {
        let api_key = key.map(SecretString::from);
        QdrantConfig { api_key, ..QdrantConfig::new(url, Arc::default()) }
    }

    #[test]
    fn loopback_needs_neither_tls_nor_key() {
        for url in ["http://127.0.0.1:6334", "http://localhost:6334", "http://[::1]:6334/"] {
            assert!(config(url, None).client().is_ok(), "{url}");
        }
    }

    #[test]
    fn another_machine_needs_tls_and_a_key() {
        for (url, key) in [
            ("http://db.example:6334", None),
            ("http://db.example:6334", Some("k")),
            ("https://db.example:6334", None),
            ("https://10.0.0.7:6334", Some("")),
        ] {
            assert_eq!(config(url, key).client().err().unwrap().class, FaultClass::Misconfigured, "{url}");
        }
        assert!(config("https://db.example:6334", Some("k")).client().is_ok());
        let open = QdrantConfig { allow_insecure: true, ..config("http://db.example:6334", None) };
        assert!(open.client().is_ok());
    }

    #[test]
    fn no_error_and_no_debug_output_shows_a_secret() {
        for (url, key) in [
            ("https://db.example:6334", Some("pl4nted key")),
            ("http://127.0.0.1:6334", Some("pl4nted\n")),
            ("http://127.0.0.1:6334", Some("pl4ntedä")),
        ] {
            let config = config(url, key);
            let fault = config.client().err().unwrap();
            assert!(!format!("{fault} {fault:?} {config:?}").contains("pl4nted"), "{url}");
        }
        for url in ["https://u:pl4nted@db.example:6334", "qdrant://:pl4nted@db", "https://u:pl4nted@[db"] {
            let fault = config(url, None).client().err().unwrap();
            assert!(!format!("{fault} {fault:?}").contains("pl4nted"), "{url}");
        }
    }
}
