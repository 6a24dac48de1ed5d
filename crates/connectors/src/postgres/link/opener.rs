//! Connections for the pool.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::Link;
use super::rows::{APPLICATION, RowsLogin};
use crate::postgres::failure::LinkFailure;

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
