//! A proxy that adds TLS to a server without it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Certificate};

/// Starts a proxy before the server with this address, which shows `own` and requires a certificate of `clients` if that
/// is an authority. Offers HTTP/2 to a client that asks for it, as gRPC does. Returns its port on 127.0.0.1.
pub async fn front(own: &Certificate, clients: Option<&Authority>, server: &str) -> u16 {
    start(config(own, clients), server).await
}

/// The same before no server, offering only this protocol.
pub async fn speaking(own: &Certificate, protocol: &[u8]) -> u16 {
    let mut config = config(own, None);
    config.alpn_protocols = vec![protocol.to_vec()];
    start(config, "127.0.0.1:9").await
}

async fn start(config: ServerConfig, server: &str) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate closes the connection.
                let Ok(mut from) = acceptor.accept(from).await else { return };
                let Ok(mut to) = TcpStream::connect(server).await else { return };
                let _ = copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    port
}

fn config(own: &Certificate, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(&own.cert).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&authority.file).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
