//! The connections to the rows: tokio-postgres on a socket of [`Link`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};
use tracing::debug;

use super::{Encryption, Link, Login, STATE, ServerState};
use crate::postgres::conninfo::{Binding, Endpoint};
use crate::postgres::failure::{Cause, LinkFailure};
use crate::postgres::socket::Socket;

/// The name of the application, if the connection string has none.
const APPLICATION: &str = "chunk-sync";

/// A login with these command-line options for the session, beside those of the string.
#[derive(Clone, Debug)]
pub(in crate::postgres) struct RowsLogin {
    pub(in crate::postgres) options: String,
}

impl RowsLogin {
    fn config(&self, link: &Link, endpoint: &Endpoint, encryption: Encryption<'_>) -> Config {
        let info = &link.info;
        let mut config = Config::new();
        config.user(&info.user).dbname(&info.database).application_name(link.application_name(APPLICATION));
        if let Some(password) = &endpoint.password {
            config.password(password.expose_secret());
        }
        let own = info.options.as_deref().unwrap_or_default();
        let options = format!("{own} {}", self.options);
        if !options.trim().is_empty() {
            config.options(options.trim());
        }
        config.channel_binding(match info.channel_binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        });
        if info.tls.is_direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        config.ssl_mode(match encryption {
            Encryption::Plain => SslMode::Disable,
            Encryption::Offered(_) => SslMode::Prefer,
            Encryption::Required(_) => SslMode::Require,
        });
        config
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
        let config = self.config(link, endpoint, encryption);
        match encryption {
            Encryption::Plain => config.connect_raw(socket, NoTls).await.map(spawned),
            Encryption::Offered(tls) | Encryption::Required(tls) => {
                config.connect_raw(socket, tls.clone()).await.map(spawned)
            }
        }
        .map_err(Cause::of_client)
    }

    async fn state(&self, (client, _): &mut Self::Session) -> Result<ServerState, Cause> {
        let answer = client.simple_query(STATE).await.map_err(Cause::Client)?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(ServerState::of(row.get(0), row.get(1))),
            _ => None,
        });
        row.ok_or_else(|| Cause::Protocol("the server did not show its state".to_owned()))
    }
}

fn spawned<S, T>((client, connection): (Client, tokio_postgres::Connection<S, T>)) -> (Client, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended");
        }
    });
    (client, task)
}

/// Opens the connections of the pool.
pub(in crate::postgres) struct Opener {
    pub(in crate::postgres) link: Arc<Link>,
    pub(in crate::postgres) login: RowsLogin,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl deadpool_postgres::Connect for Opener {
    fn connect(&self, _: &Config) -> Opening<'_> {
        Box::pin(async {
            match self.link.open(&self.login).await {
                Ok(session) => Ok(session),
                Err(failure) => Err(carry(failure).await),
            }
        })
    }
}

/// An error of the client that carries `failure`: the client has no constructor for one, so it gets a socket that fails
/// with it.
async fn carry(failure: LinkFailure) -> Error {
    let mut config = Config::new();
    config.user(APPLICATION).ssl_mode(SslMode::Disable);
    loop {
        if let Err(error) = config.connect_raw(Broken(failure.clone()), NoTls).await {
            return error;
        }
    }
}

/// A socket that was never open.
struct Broken(LinkFailure);

impl Broken {
    fn error(&self) -> io::Error {
        io::Error::other(self.0.clone())
    }
}

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.error()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.error()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.error()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
