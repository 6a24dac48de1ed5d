//! TLS for the connections to the server, by rustls: which certificates are accepted, the certificate of the client, and
//! the data that binds a SCRAM login to the connection. `link` decides whether a connection uses TLS.

mod certificate;
mod failure;
mod files;
mod verifier;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::conninfo::{self, Versions};
pub(super) use failure::{TlsFailure, alert};
pub(super) use verifier::Verification;

/// Creates handshakes with one server.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads certificates and keys. `name` is the name or address that the certificate of the server must show.
    ///
    /// # Errors
    /// The problem and its remedy: a file that cannot be read or holds nothing usable, or an invalid name.
    pub(super) fn new(wish: &conninfo::Tls, verification: Verification, name: &str) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier::Verifier::new(&wish.roots, verification, Arc::clone(&provider))?;
        let versions: &[&SupportedProtocolVersion] = match wish.versions {
            Versions::All => &[&version::TLS13, &version::TLS12],
            Versions::Only12 => &[&version::TLS12],
            Versions::Only13 => &[&version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &wish.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let (chain, key) = files::identity(client)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    format!(
                        "sslcert {} does not fit sslkey: {error}; name the key of that certificate",
                        client.certificate.display()
                    )
                })?
            }
        };
        config.enable_sni = wish.sends_name;
        // As libpq 17 does; with sslnegotiation=direct the server requires it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| format!("`{name}` is no valid name of a server; write its name or address"))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name: server })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`TlsFailure`] inside for a certificate that is refused; otherwise the error of the connection.
    pub(super) async fn handshake<S>(self, stream: S) -> io::Result<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name.to_str().into_owned();
        match self.connector.connect(self.name, stream).await {
            Ok(stream) => Ok(Stream(stream)),
            Err(error) => Err(failure::explained(error, &name)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(self.handshake(stream))
    }
}

/// A connection after its handshake.
pub(super) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S> Stream<S> {
    /// The digest of the server's certificate that binds a login to this connection: `tls-server-end-point` of RFC 5929.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        let (_, session) = self.0.get_ref();
        session.peer_certificates().and_then(<[_]>::first).and_then(|own| certificate::digest(own))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
