//! Asks a port what it speaks, apart from the clients: of a wrong scheme or certificate some report only that the connection
//! broke or that no answer came.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{self, TlsFiles};

/// How long the port may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first bytes that the port answers to a question in plain text; `None` if it answers fewer.
pub(crate) async fn first_bytes<const N: usize>(host: &str, port: u16, question: &[u8]) -> Option<[u8; N]> {
    let asked = async {
        let mut stream = connect(host, port).await?;
        stream.write_all(question).await?;
        let mut first = [0; N];
        stream.read_exact(&mut first).await.map(|_| first)
    };
    timeout(PATIENCE, asked).await.ok()?.ok()
}

/// Whether the port completes a TLS handshake, with any certificate.
pub(crate) async fn speaks_tls(host: &str, port: u16) -> bool {
    matches!(timeout(PATIENCE, handshake(host, port, &[], false)).await, Ok(Ok(_)))
}

/// Why a verified TLS connection with this protocol fails: the handshake, or the first byte after it, which a server that
/// requires a certificate of the client refuses. `None` if it does not fail, or fails for another reason in time.
pub(crate) async fn tls_failure(host: &str, port: u16, protocol: &[u8]) -> Option<io::Error> {
    let asked = async {
        let mut stream = handshake(host, port, protocol, true).await?;
        stream.read_u8().await
    };
    timeout(PATIENCE, asked).await.ok()?.err()
}

async fn handshake(
    host: &str,
    port: u16,
    protocol: &[u8],
    verified: bool,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = tls::client(&TlsFiles::default(), verified).map_err(io::Error::other)?;
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    let name = ServerName::try_from(bare(host).to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, connect(host, port).await?).await
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((bare(host), port)).await
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}
