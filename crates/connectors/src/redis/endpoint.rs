//! Where the server is: the one that the URL names, or the master that the Sentinels name.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates,
};

use super::fault::Error;
use crate::probe;
use crate::remote::is_loopback;

/// How long one Sentinel may take.
const SENTINEL_WITHIN: Duration = Duration::from_secs(2);

/// The port of a Sentinel by default.
const SENTINEL: u16 = 26379;

/// The way to the server.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) info: ConnectionInfo,
    pub(super) certificates: Option<TlsCertificates>,
    /// `host:port` of each Sentinel; none if the URL names the server itself. Otherwise its host is the master's name.
    pub(super) sentinels: Vec<String>,
    /// User and password of the Sentinels.
    pub(super) sentinel_login: RedisConnectionInfo,
    /// Whether a master on another machine may be used without TLS and a password.
    pub(super) allow_insecure: bool,
}

impl Endpoint {
    /// A client of the server that is the master now.
    ///
    /// # Errors
    /// [`Error::Sentinel`] if no Sentinel names a master; [`Error::Insecure`] if it may not be used; else the library's.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        if self.sentinels.is_empty() {
            return self.at(self.info.addr().clone());
        }
        let (host, port) = self.master().await?;
        let address = self.beside(host, port);
        let verified = matches!(address, ConnectionAddr::TcpTls { insecure: false, .. });
        if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = &address
            && !(is_loopback(host) || verified || self.allow_insecure)
        {
            return Err(Error::Insecure(host.clone()));
        }
        self.at(address)
    }

    /// Whether a server that is no master any more must be left.
    pub(super) fn follows_a_master(&self) -> bool {
        !self.sentinels.is_empty()
    }

    /// The error of the first connection, or, if the scheme of the URL has TLS and the port has not, or the reverse, which
    /// scheme to write.
    pub(super) async fn explained(&self, error: Error) -> Error {
        let is_known = !self.sentinels.is_empty() || error.of_certificates().is_some();
        let text = match self.info.addr() {
            _ if is_known || !error.is_of_transport() => None,
            ConnectionAddr::TcpTls { host, port, .. } => {
                let answer = probe::first_bytes(host, *port, b"PING\r\n").await;
                matches!(answer, Some([b'+' | b'-'])).then(|| {
                    format!("{host}:{port} speaks Redis without TLS; write redis:// in redis.url, or name its TLS port")
                })
            }
            ConnectionAddr::Tcp(host, port) => probe::speaks_tls(host, *port)
                .await
                .then(|| format!("{host}:{port} speaks TLS; write rediss:// in redis.url")),
            _ => None,
        };
        text.map_or(error, Error::Setup)
    }

    fn at(&self, address: ConnectionAddr) -> Result<Client, Error> {
        let info = self.info.clone().set_addr(address);
        Ok(match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        })
    }

    /// The address with the same security as that of the URL.
    fn beside(&self, host: String, port: u16) -> ConnectionAddr {
        match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }

    /// The name of the master, which is the host of the URL.
    fn name(&self) -> &str {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "mymaster",
        }
    }

    /// The answer of the first Sentinel that knows the master.
    async fn master(&self) -> Result<(String, u16), Error> {
        let mut refusals = Vec::new();
        for sentinel in &self.sentinels {
            match self.ask(sentinel).await {
                Ok(Some((host, port))) => return Ok((host, port)),
                Ok(None) => refusals.push(format!("{sentinel} knows no such master")),
                Err(error) => refusals.push(format!("{sentinel}: {error}")),
            }
        }
        Err(Error::Sentinel { name: self.name().to_owned(), refusals: refusals.join(", ") })
    }

    async fn ask(&self, sentinel: &str) -> Result<Option<(String, u16)>, Error> {
        let (host, port) = split(sentinel);
        // A Sentinel has no databases, and users of its own: only the security of the connection is the same.
        let info = self.beside(host, port).into_connection_info()?.set_redis_settings(self.sentinel_login.clone());
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(SENTINEL_WITHIN))
            .set_response_timeout(Some(SENTINEL_WITHIN));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(self.name());
        Ok(command.query_async(&mut connection).await?)
    }
}

/// Host and port of `host`, `host:port` or `[address]:port`.
pub(super) fn split(place: &str) -> (String, u16) {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(SENTINEL)),
        _ => (place, SENTINEL),
    };
    (host.trim_matches(['[', ']']).to_owned(), port)
}
