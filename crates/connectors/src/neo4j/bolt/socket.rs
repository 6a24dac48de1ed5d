//! The socket: plain or TLS with a verified certificate, without Nagle's algorithm. With it a request that takes several
//! writes would wait 40 ms for the delayed acknowledgement of its first one.

use std::io::{self, ErrorKind};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;

pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

/// Connects to the address.
///
/// # Errors
/// [`InvalidData`](ErrorKind::InvalidData) if the certificate is not trusted; else the error of the system.
pub(super) async fn connect(address: &Address) -> io::Result<Box<dyn Socket>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    if !address.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(address.host.clone()).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    Ok(Box::new(connector()?.connect(name, stream).await?))
}

/// The connector with the certificates that the system trusts, loaded once.
fn connector() -> io::Result<TlsConnector> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config).into());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))).into())
}
