//! TLS to the real server, which a proxy adds: the certificates that are accepted, and what is wrong with the others.

use std::sync::Arc;

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::{OwnCertificate, TlsFiles};
use chunk_sync_engine::ports::{Fault, FaultClass, Projection};
use chunk_sync_testkit::certificates::{Authority, Certificate};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fixture::config;

/// Starts a proxy with this certificate, which asks clients for one of `clients` if that is an authority. Returns its port.
async fn front(own: &Certificate, clients: Option<&Authority>) -> u16 {
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
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = config().url.trim_start_matches("bolt://").to_owned();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate closes the connection.
                let Ok(mut from) = acceptor.accept(from).await else { return };
                let mut to = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn check(url: String, tls: TlsFiles) -> Result<(), Fault> {
    Neo4jStore::new(&Neo4jConfig { url, tls, ..config() })?.check().await
}

fn trusting(authority: &Authority) -> TlsFiles {
    TlsFiles { ca: Some(authority.file.clone()), own: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_verified_and_what_is_wrong_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (own, trusts, refusal) in [
        (authority.sign(&["localhost"]), &authority, None),
        (
            authority.sign(&["localhost"]),
            &other,
            Some("self-signed, or its authority is not trusted; set neo4j.ca_file"),
        ),
        (authority.self_signed(&["localhost"]), &authority, Some("self-signed")),
        (authority.sign_expired(&["localhost"]), &authority, Some("has expired")),
        (authority.sign(&["db.example"]), &authority, Some("for another name")),
    ] {
        let port = front(&own, None).await;
        for scheme in ["bolt+s", "neo4j+s"] {
            let checked = check(format!("{scheme}://localhost:{port}"), trusting(trusts)).await;
            let Some(refusal) = refusal else {
                checked.unwrap();
                continue;
            };
            let fault = checked.unwrap_err();
            assert!(fault.class == FaultClass::Misconfigured && fault.message.contains(refusal), "{refusal}: {fault}");
        }
        // Without verification any of them is accepted; off loopback such a scheme needs `allow_insecure`.
        check(format!("bolt+ssc://localhost:{port}"), TlsFiles::default()).await.unwrap();
    }
    let plain = config().url.replacen("bolt://127.0.0.1", "bolt+s://localhost", 1);
    let fault = check(plain, trusting(&authority)).await.unwrap_err();
    assert!(matches!(fault.class, FaultClass::Misconfigured | FaultClass::Unavailable), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_client_is_shown_and_its_lack_named() {
    let authority = Authority::new();
    let (own, mine) = (authority.sign(&["localhost"]), authority.sign(&["chunk-sync"]));
    let url = format!("bolt+s://localhost:{}", front(&own, Some(&authority)).await);
    let fault = check(url.clone(), trusting(&authority)).await.unwrap_err();
    assert!(fault.message.contains("neo4j.cert_file"), "{fault}");
    let shown = OwnCertificate { cert: mine.cert, key: mine.key };
    check(url, TlsFiles { own: Some(shown), ..trusting(&authority) }).await.unwrap();
}
