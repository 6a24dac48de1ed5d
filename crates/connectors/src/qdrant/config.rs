//! Connection settings, and the checks that run before anything is sent.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;
use qdrant_client::Qdrant;
use qdrant_client::config::QdrantConfig as ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::Uri;

use super::rest_port::GRPC;
use crate::remote::{insecure, is_loopback};

const CONTEXT: &str = "qdrant: configuration";

/// Number of connections. Each carries any number of concurrent calls.
const CONNECTIONS: usize = 2;

/// Connection settings of one collection.
#[derive(Clone, Debug)]
pub struct QdrantConfig {
    /// URL of the gRPC port: `http://host:6334`, or `https://host:6334` for TLS. Without a port, 6334 is taken, also for
    /// `https`: the servers of Qdrant Cloud have gRPC there.
    pub url: String,
    /// The API key, if the server requires one.
    pub api_key: Option<SecretString>,
    /// The name of the collection.
    pub collection: String,
    /// Deadline of one call.
    pub timeout: Duration,
    /// Deadline for opening a connection.
    pub connect_timeout: Duration,
    /// Permits a server on another machine without TLS and an API key.
    pub allow_insecure: bool,
    /// The embedding models, each of which has one named vector.
    pub limits: Arc<Limits>,
}

impl QdrantConfig {
    /// The defaults for the server at `url`: collection `unified_chunks`, no API key, 30 s per call, 5 s to connect.
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

    /// A client for this server. Creates no connection yet.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL is invalid or contains a user name or password, if the
    /// API key contains other characters than visible ASCII, or if the server is on another machine, lacks TLS or an
    /// API key, and `allow_insecure` is off.
    pub(super) fn client(&self) -> Result<Qdrant, Fault> {
        let uri = self.address()?;
        let key = self.key()?;
        self.check_secure(&uri, key.is_some())?;
        let mut client = ClientConfig::from_url(&with_port(&self.url, &uri));
        client.api_key = key.map(str::to_owned);
        client.timeout = self.timeout;
        client.connect_timeout = self.connect_timeout;
        client.pool_size = CONNECTIONS;
        // The check prints its result to standard output.
        client.check_compatibility = false;
        Qdrant::new(client).map_err(|error| misconfigured(error.to_string()))
    }

    /// Whether the URL is accepted.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn is_accepted(&self) -> bool {
        self.client().is_ok()
    }

    fn address(&self) -> Result<Uri, Fault> {
        // The messages do not quote the URL, because it may contain a password.
        let parsed = self.url.parse::<Uri>().ok();
        let valid = parsed.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let uri = valid.ok_or_else(|| {
            misconfigured("invalid URL; expected http://host:6334, or https://host:6334 for TLS".to_owned())
        })?;
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err(misconfigured(
                "the URL contains a user name or password, which Qdrant does not support; remove it and set api_key"
                    .to_owned(),
            )),
            // The client would quote them in its errors.
            _ if uri.query().is_some() => Err(misconfigured(
                "the URL contains options, which Qdrant does not support; remove them and set api_key".to_owned(),
            )),
            _ => Ok(uri),
        }
    }

    /// The key, unless it is empty. A key that is not valid in a header is refused here, because the client's own error
    /// message would quote it.
    fn key(&self) -> Result<Option<&str>, Fault> {
        let key = self.api_key.as_ref().map(ExposeSecret::expose_secret).filter(|key| !key.is_empty());
        match key {
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(misconfigured(
                "api_key contains white space, a control character or a non-ASCII character; correct it".to_owned(),
            )),
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

/// The URL with the port of gRPC if it names none.
fn with_port(url: &str, uri: &Uri) -> String {
    match (uri.port(), uri.authority()) {
        (None, Some(authority)) => url.replacen(authority.as_str(), &format!("{}:{GRPC}", authority.host()), 1),
        _ => url.to_owned(),
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
    fn a_url_without_a_port_means_the_port_of_grpc() {
        for (url, whole) in [
            ("https://xyz.eu-central-1-0.aws.cloud.qdrant.io", "https://xyz.eu-central-1-0.aws.cloud.qdrant.io:6334"),
            ("http://localhost/", "http://localhost:6334/"),
            ("http://[::1]", "http://[::1]:6334"),
            ("https://db.example:443", "https://db.example:443"),
        ] {
            assert_eq!(config(url, Some("k")).client().unwrap().config.uri, whole);
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
