//! TLS for the replication client, whose own TLS would add a second cryptographic library and trust other certificates.
//! The tunnel is a Unix socket in a private directory that forwards to the server, verified as for the connections to
//! the rows.

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

/// The SSLRequest message: its length, then 1234 and 5679 as the version. Source: PostgreSQL's manual, "SSLRequest".
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Time limit for connection and handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tunnel through TLS for one connection.
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
    /// Connects to the server, completes the TLS handshake and opens the socket.
    pub(super) async fn to(host: &str, port: u16) -> Result<Self, Fault> {
        let there = tokio::time::timeout(PATIENCE, handshake(host, port)).await;
        let there = there.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let opened = there.and_then(|server| Self::open(server, port));
        opened.map_err(|error| {
            Fault::new(FaultClass::Unavailable, CONTEXT, format!("cannot open TLS to {host}:{port}: {error}"))
        })
    }

    fn open(mut server: Stream<TcpStream>, port: u16) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let listener = UnixListener::bind(directory.path().join(format!(".s.PGSQL.{port}")))?;
        let task = tokio::spawn(async move {
            if let Ok((mut client, _)) = listener.accept().await {
                // However the copy ends, the client finds its connection closed and reports that.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        Ok(Self { directory, task })
    }

    /// The directory of the socket, as the host for the client.
    pub(super) fn host(&self) -> String {
        self.directory.path().display().to_string()
    }
}

async fn handshake(host: &str, port: u16) -> io::Result<Stream<TcpStream>> {
    let mut server = TcpStream::connect((host, port)).await?;
    server.set_nodelay(true)?;
    server.write_all(&SSL_REQUEST).await?;
    if server.read_u8().await? != b'S' {
        return Err(io::Error::other(
            "the server does not support TLS; enable ssl on the server or set sslmode=disable",
        ));
    }
    let mut tls = Tls::new().map_err(io::Error::other)?;
    let handshake: Handshake =
        MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, host).map_err(io::Error::other)?;
    handshake.connect(server).await
}
