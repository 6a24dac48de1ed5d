//! The socket of a connection: TCP or Unix, opened within a time limit.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::conninfo::{Endpoint, Host, Keepalive};

/// A half-open connection is detected after this time.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Where an endpoint is: one of its addresses.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An open socket.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The addresses of an endpoint, in the order in which they are tried.
pub(super) async fn addresses(endpoint: &Endpoint) -> io::Result<Vec<Address>> {
    match &endpoint.host {
        Host::Unix(directory) => Ok(vec![Address::Unix(Endpoint::socket(directory, endpoint.port))]),
        Host::Tcp { address: Some(address), .. } => Ok(vec![Address::Tcp((*address, endpoint.port).into())]),
        Host::Tcp { name, .. } => {
            let found: Vec<_> = lookup_host((name.as_str(), endpoint.port)).await?.map(Address::Tcp).collect();
            if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
        }
    }
}

impl Socket {
    pub(super) async fn open(address: &Address, keepalive: &Keepalive) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(abstracted(path)).await?)),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                if keepalive.enabled {
                    let settings = TcpKeepalive::new()
                        .with_time(keepalive.idle.unwrap_or(DEAD_AFTER / 2))
                        .with_interval(keepalive.interval.unwrap_or(DEAD_AFTER / 6))
                        .with_retries(keepalive.count.unwrap_or(3));
                    socket.set_tcp_keepalive(&settings)?;
                }
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(keepalive.user_timeout.unwrap_or(DEAD_AFTER)))?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

/// A path that begins with `@` is a name in Linux' abstract namespace, which begins with a zero byte.
fn abstracted(path: &Path) -> PathBuf {
    let name = path.to_str().and_then(|text| text.strip_prefix('@'));
    name.map_or_else(|| path.to_owned(), |name| PathBuf::from(format!("\0{name}")))
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
