//! The connections to the rows: tokio-postgres on a stream of [`Link`], with a session of its own or behind a pooler.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, Empty, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Bound, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tracing::{debug, info};

use super::encrypted::{Open, open};
use super::pooled::{Pooled, Setting, Verdict};
use super::{Encryption, Link, Login, STATE, ServerState};
use crate::postgres::conninfo::{Binding, Endpoint};
use crate::postgres::failure::Cause;
use crate::postgres::socket::Socket;
use crate::postgres::wire::Duplex;

/// The name of the application, if the connection string has none.
pub(super) const APPLICATION: &str = "chunk-sync";

/// A login with these settings: of the session, or of every transaction where a pooler answers.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct RowsLogin {
    pub(in crate::postgres) settings: Vec<Setting>,
    /// Whether a pooler, or another program that opens the sessions, answered the last login.
    pub(in crate::postgres) is_pooled: Arc<AtomicBool>,
}

impl RowsLogin {
    fn config(link: &Link, endpoint: &Endpoint) -> Config {
        let info = &link.info;
        let mut config = Config::new();
        config.user(&info.user).dbname(&info.database).application_name(link.application_name(APPLICATION));
        if let Some(password) = &endpoint.password {
            config.password(password.expose_secret());
        }
        if let Some(options) = &info.options {
            config.options(options);
        }
        config.channel_binding(match info.channel_binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        });
        // The stream is open: the client only asks what binds the login to it.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        config
    }

    /// Sets the settings of the session, unless another program than the server answered the login. A pooler announces a
    /// process id of its own.
    async fn settle(&self, client: &Client, verdict: &Verdict) -> Result<(), Cause> {
        let own = format!("pg_backend_pid() = {}", verdict.announced());
        let set =
            |(name, value): &Setting| format!(", CASE WHEN {own} THEN set_config('{name}', '{value}', false) END");
        let sql = format!("SELECT ({own})::text{}", self.settings.iter().map(set).collect::<String>());
        let row = first(client, &sql).await?;
        let is_pooled = row.get(0) != Some("true");
        verdict.decide(is_pooled.then(|| self.settings.clone()));
        if is_pooled != self.is_pooled.swap(is_pooled, Ordering::Relaxed) {
            info!(
                pooler = is_pooled,
                "postgres.url leads to a pooler: every transaction brings its statements and settings"
            );
        }
        Ok(())
    }
}

impl Login for RowsLogin {
    type Session = (Client, JoinHandle<()>);

    async fn log_in(
        &self,
        link: &Link,
        endpoint: &Endpoint,
        socket: Socket,
        encryption: Encryption<'_>,
    ) -> Result<Self::Session, Cause> {
        let Open { stream, end_point, .. } = open(socket, encryption, link.info.tls.is_direct).await?;
        let verdict = Arc::new(Verdict::default());
        let opened = Opened { stream: Pooled::new(stream, Arc::clone(&verdict)), end_point };
        let config = Self::config(link, endpoint);
        let (client, connection) = config.connect_raw(tokio::io::empty(), opened).await.map_err(Cause::of_client)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended");
            }
        });
        self.settle(&client, &verdict).await?;
        Ok((client, task))
    }

    async fn state(&self, (client, _): &mut Self::Session) -> Result<ServerState, Cause> {
        let row = first(client, STATE).await?;
        Ok(ServerState::of(row.get(0), row.get(1)))
    }
}

async fn first(client: &Client, sql: &str) -> Result<tokio_postgres::SimpleQueryRow, Cause> {
    let answer = client.simple_query(sql).await.map_err(Cause::Client)?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.ok_or_else(|| Cause::Protocol("the server did not show its state".to_owned()))
}

/// A stream that is open already, in the place of a handshake.
struct Opened {
    stream: Pooled<Box<dyn Duplex>>,
    end_point: Option<Vec<u8>>,
}

impl TlsConnect<Empty> for Opened {
    type Stream = Self;
    type Error = io::Error;
    type Future = Ready<io::Result<Self>>;

    fn connect(self, _: Empty) -> Self::Future {
        ready(Ok(self))
    }
}

impl TlsStream for Opened {
    fn channel_binding(&self) -> Bound {
        self.end_point.clone().map_or_else(Bound::none, Bound::tls_server_end_point)
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
