//! The socket: plain or TLS, without Nagle's algorithm. With it a request that takes several writes would wait 40 ms for the
//! delayed acknowledgement of its first one.

use std::io::{self, ErrorKind};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;

pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

/// Connects to the address; with TLS if there is a connector.
///
/// # Errors
/// [`InvalidData`](ErrorKind::InvalidData) if the certificate is not trusted; else the error of the system.
pub(super) async fn connect(address: &Address, tls: Option<&TlsConnector>) -> io::Result<Box<dyn Socket>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(address.host.clone()).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    match tls.connect(name, stream).await {
        // So a Bolt port without TLS ends: it takes the greeting for an unknown protocol.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the server closed the connection during the TLS handshake; if this port has no TLS, write bolt:// or neo4j:// in \
             neo4j.url",
        )),
        connected => Ok(Box::new(connected?)),
    }
}
