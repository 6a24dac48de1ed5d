//! TLS for the replication client, whose own brings a second cryptographic library and trusts other certificates: a socket
//! in a directory that nobody else may enter, and behind it the server, verified as it is for the rows.

use std::io;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::CONTEXT;
use crate::postgres::tls::{Handshake, Stream, Tls};

/// Asks for TLS: the length of the message, and 1234 and 5679 for a version. Source: PostgreSQL's manual, "SSLRequest".
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How long it may take to get there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way through TLS for one connection.
pub(super) struct Tunnel {
    directory: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    /// Opens it, with the handshake made.
    pub(super) async fn to(host: &str, port: u16) -> Result<Self, Fault> {
        let there = tokio::time::timeout(PATIENCE, handshake(host, port)).await;
        let there = there.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let opened = there.and_then(|server| Self::open(server, port));
        opened.map_err(|error| Fault::new(FaultClass::Unavailable, CONTEXT, format!("TLS to {host}: {error}")))
    }

    fn open(mut server: Stream<TcpStream>, port: u16) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let listener = UnixListener::bind(directory.path().join(format!(".s.PGSQL.{port}")))?;
        let task = tokio::spawn(async move {
            if let Ok((mut client, _)) = listener.accept().await {
                // Whatever ends it, the client finds its connection ended, and says so.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        Ok(Self { directory, task })
    }

    /// The host by this way.
    pub(super) fn host(&self) -> String {
        self.directory.path().display().to_string()
    }
}

async fn handshake(host: &str, port: u16) -> io::Result<Stream<TcpStream>> {
    let mut server = TcpStream::connect((host, port)).await?;
    server.set_nodelay(true)?;
    server.write_all(&SSL_REQUEST).await?;
    if server.read_u8().await? != b'S' {
        return Err(io::Error::other("the server has none: have it use TLS, or say sslmode=disable"));
    }
    let mut tls = Tls::new().map_err(io::Error::other)?;
    let handshake: Handshake =
        MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, host).map_err(io::Error::other)?;
    handshake.connect(server).await
}
