//! TLS to the real server, which a proxy adds: the certificates that are accepted, and what is wrong with the others.

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::{OwnCertificate, TlsFiles};
use chunk_sync_engine::ports::{Fault, FaultClass, Projection};
use chunk_sync_testkit::certificates::Authority;
use chunk_sync_testkit::tls_front::front;

use super::fixture::config;

/// The address of the server, without TLS.
fn address() -> String {
    config().url.trim_start_matches("bolt://").to_owned()
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
        let port = front(&own, None, &address()).await;
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
    assert!(fault.message.contains("TLS") && fault.message.contains("neo4j.url"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_client_is_shown_and_its_lack_named() {
    let authority = Authority::new();
    let (own, mine) = (authority.sign(&["localhost"]), authority.sign(&["chunk-sync"]));
    let url = format!("bolt+s://localhost:{}", front(&own, Some(&authority), &address()).await);
    let fault = check(url.clone(), trusting(&authority)).await.unwrap_err();
    assert!(fault.message.contains("neo4j.cert_file"), "{fault}");
    let shown = OwnCertificate { cert: mine.cert, key: mine.key };
    check(url, TlsFiles { own: Some(shown), ..trusting(&authority) }).await.unwrap();
}
