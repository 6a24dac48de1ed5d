//! Opens connections to the servers of a connection string: host by host, address by address, encrypted as `sslmode`
//! demands, each attempt within a time limit. The connections to the rows and the replication connection share it, so that
//! both mean the same servers by the same string.

mod encrypted;
mod opener;
mod pooled;
mod rows;
mod way;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use secrecy::ExposeSecret;

use super::config::{CONTEXT, PostgresConfig};
use super::conninfo::{ConnInfo, Endpoint, Session, Surroundings, resolve};
use super::failure::{Cause, LinkFailure};
use super::socket::{Socket, addresses};
pub(super) use encrypted::open;
pub(super) use opener::Opener;
pub(super) use pooled::Setting;
pub(super) use rows::RowsLogin;
pub(super) use way::{Encryption, Way};

/// How to reach the servers.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) info: ConnInfo,
    /// One per endpoint.
    ways: Vec<Way>,
    /// Limit of one attempt.
    patience: Duration,
}

/// A protocol that begins on an open socket.
pub(super) trait Login: Sync {
    /// A connection that is ready for statements.
    type Session: Send;

    /// Encrypts the socket as far as requested, and logs in.
    fn log_in(
        &self,
        link: &Link,
        endpoint: &Endpoint,
        socket: Socket,
        encryption: Encryption<'_>,
    ) -> impl Future<Output = Result<Self::Session, Cause>> + Send;

    /// Whether the server is in recovery, and whether the session takes no writes.
    fn state(&self, session: &mut Self::Session) -> impl Future<Output = Result<ServerState, Cause>> + Send;
}

/// The statement that shows a [`ServerState`], as two words.
pub(super) const STATE: &str = "SELECT pg_is_in_recovery()::text, current_setting('transaction_read_only')";

/// Whether a server takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerState {
    pub(super) in_recovery: bool,
    pub(super) read_only: bool,
}

impl ServerState {
    /// Reads the answer to [`STATE`].
    pub(super) fn of(in_recovery: Option<&str>, read_only: Option<&str>) -> Self {
        Self { in_recovery: in_recovery == Some("true"), read_only: read_only == Some("on") }
    }
}

impl Link {
    /// Resolves the connection string of `config` and loads its certificates. Sends nothing.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) for a string that is invalid or not supported, and for a connection
    /// that leaves this machine without verified TLS or credentials.
    pub(super) fn of(config: &PostgresConfig) -> Result<Arc<Self>, Fault> {
        let refused = |message: String| Fault::new(FaultClass::Misconfigured, CONTEXT, message);
        let info = resolve(config.url.expose_secret(), &Surroundings::here());
        let info = info.map_err(|error| refused(error.to_string()))?;
        let ways = info.endpoints.iter().map(|endpoint| Way::of(&info, endpoint, config.allow_insecure));
        let ways = ways.collect::<Result<_, _>>()?;
        let patience = info.connect_timeout.unwrap_or(config.connect_timeout);
        Ok(Arc::new(Self { info, ways, patience }))
    }

    /// Whether the string leaves a choice of servers, or states what the server must be.
    fn chooses(&self) -> bool {
        self.info.endpoints.len() > 1 || self.info.session != Session::Any
    }

    /// Opens a connection: the first that succeeds, in the order of the string. Of several servers, those that do not
    /// take writes are passed over. As libpq, stops where a server refuses the login.
    pub(super) async fn open<L: Login>(&self, login: &L) -> Result<L::Session, LinkFailure> {
        let mut failures = Vec::new();
        for (endpoint, way) in self.info.endpoints.iter().zip(&self.ways) {
            match self.open_place(login, endpoint, way).await {
                Ok(session) => return Ok(session),
                Err(cause) => {
                    let is_final = cause.is_refusal();
                    failures.push((endpoint.to_string(), cause));
                    if is_final {
                        break;
                    }
                }
            }
        }
        Err(LinkFailure::of(&failures))
    }

    async fn open_place<L: Login>(&self, login: &L, endpoint: &Endpoint, way: &Way) -> Result<L::Session, Cause> {
        let found = tokio::time::timeout(self.patience, addresses(endpoint)).await;
        let found = found.map_err(|_| Cause::Timeout(self.patience))?.map_err(Cause::Lookup)?;
        let mut last = Cause::Timeout(self.patience);
        for address in found {
            for encryption in way.encryptions() {
                let attempt = async {
                    let socket = Socket::open(&address, &self.info.keepalive).await.map_err(Cause::Socket)?;
                    let mut session = login.log_in(self, endpoint, socket, encryption).await?;
                    if self.chooses() {
                        self.accept(login.state(&mut session).await?)?;
                    }
                    Ok(session)
                };
                let done = tokio::time::timeout(self.patience, attempt).await;
                match done.unwrap_or(Err(Cause::Timeout(self.patience))) {
                    Ok(session) => return Ok(session),
                    Err(cause) => last = cause,
                }
                if !last.may_depend_on_encryption() {
                    break;
                }
            }
            if last.is_refusal() {
                break;
            }
        }
        Err(last)
    }

    fn accept(&self, state: ServerState) -> Result<(), Cause> {
        match state {
            ServerState { in_recovery: true, .. } => Err(Cause::Standby),
            ServerState { read_only: true, .. } if self.info.session == Session::ReadWrite => Err(Cause::ReadOnly),
            _ => Ok(()),
        }
    }

    /// The application's name of the string, or this one.
    pub(super) fn application_name<'a>(&'a self, default: &'a str) -> &'a str {
        self.info.application_name.as_deref().unwrap_or(default)
    }
}
