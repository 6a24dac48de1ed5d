//! Connection settings, and the checks of them before anything is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Limits;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};

use crate::remote::{insecure, is_loopback};

const CONTEXT: &str = "postgres: configuration";

/// A half-open connection is detected after this time.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Address and settings of the system of record.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:5432/database?sslmode=require`
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

    /// Settings of the client: every timeout set, and TLS when the server is on another machine.
    pub(super) fn client(&self) -> Result<tokio_postgres::Config, Fault> {
        let mut client: tokio_postgres::Config = self.url.expose_secret().parse().map_err(|_| {
            // The parser's message may quote the URL, and with it the password.
            let message = "invalid URL, or an option that libpq does not have; expected \
                postgres://user:password@host:5432/database, with ?sslmode=require when the server is on another machine";
            Fault::new(FaultClass::Misconfigured, CONTEXT, message)
        })?;
        self.secure(&mut client)?;
        let options = format!(
            "{} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
             -c synchronous_commit=on -c row_security=off",
            client.get_options().unwrap_or_default(),
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            (2 * self.statement_timeout).as_millis(),
        );
        client.options(options.trim_start()).connect_timeout(self.connect_timeout);
        client.tcp_user_timeout(DEAD_AFTER).keepalives(true).keepalives_idle(DEAD_AFTER / 2);
        client.keepalives_interval(DEAD_AFTER / 6).keepalives_retries(3);
        if client.get_application_name().is_none() {
            client.application_name("chunk-sync");
        }
        Ok(client)
    }

    fn secure(&self, client: &mut tokio_postgres::Config) -> Result<(), Fault> {
        let wanted = client.get_ssl_mode();
        let named = client.get_hosts().iter().find_map(off_loopback);
        let mut addressed = client.get_hostaddrs().iter().filter(|address| !address.is_loopback());
        let Some(host) = named.or_else(|| addressed.next().map(IpAddr::to_string)) else {
            // A server on this machine may have a self-signed certificate: TLS only on request.
            if wanted != SslMode::Require {
                client.ssl_mode(SslMode::Disable);
            }
            return Ok(());
        };
        let missing = match (wanted, client.get_password().filter(|password| !password.is_empty())) {
            (SslMode::Disable, _) => "verified TLS (sslmode=disable)",
            (_, None) => "password",
            _ => {
                client.ssl_mode(SslMode::Require);
                return Ok(());
            }
        };
        insecure(CONTEXT, &host, missing, "sslmode=require with a password", self.allow_insecure)
    }
}

/// The name of the host when it is another machine.
fn off_loopback(host: &Host) -> Option<String> {
    match host {
        Host::Tcp(name) => (!is_loopback(name)).then(|| name.clone()),
        #[cfg(unix)]
        Host::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config(url: &str) -> PostgresConfig {
        PostgresConfig::new(url.into(), Arc::default())
    }

    fn mode(url: &str) -> SslMode {
        config(url).client().unwrap().get_ssl_mode()
    }

    #[test]
    fn loopback_needs_neither_tls_nor_password() {
        for host in ["127.0.0.1", "localhost:5533", "[::1]", "%2Ftmp"] {
            assert_eq!(mode(&format!("postgres://me@{host}/db")), SslMode::Disable, "{host}");
        }
        assert_eq!(mode("postgres://me@localhost/db?sslmode=require"), SslMode::Require);
    }

    #[test]
    fn another_machine_needs_tls_and_a_password() {
        for url in [
            "postgres://me@db.example/db",
            "postgres://me@db.example/db?sslmode=require",
            "postgres://me:@db.example/db?sslmode=require",
            "postgres://me:pw@db.example/db?sslmode=disable",
            "postgres://me:pw@localhost,db.example/db?sslmode=disable",
            "postgres://me@localhost/db?hostaddr=10.0.0.7",
        ] {
            assert_eq!(config(url).client().unwrap_err().class, FaultClass::Misconfigured, "{url}");
            assert!(PostgresConfig { allow_insecure: true, ..config(url) }.client().is_ok(), "{url}");
        }
        assert_eq!(mode("postgres://me:pw@db.example/db"), SslMode::Require);
    }

    #[test]
    fn no_error_and_no_debug_output_shows_the_password() {
        for url in ["postgres://u:pl4nted@db/x?sslmode=none", "postgres//u:pl4nted@db", "postgres://u:pl4nted@h:port/x"]
        {
            let config = config(url);
            let fault = config.client().unwrap_err();
            assert!(!format!("{fault} {fault:?} {config:?}").contains("pl4nted"), "{url}");
        }
    }

    #[test]
    fn options_of_the_url_are_kept_beside_the_timeouts() {
        let client = config("postgres://me@localhost/db?options=-c%20work_mem%3D8MB").client().unwrap();
        let options = client.get_options().unwrap();
        assert!(options.starts_with("-c work_mem=8MB -c statement_timeout=30000 "), "{options}");
    }
}
