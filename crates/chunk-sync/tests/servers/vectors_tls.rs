//! TLS before the test server for Qdrant: which certificates the program accepts, and what `doctor` reports of the others.
//! The client library reads the trusted authorities from `SSL_CERT_FILE`, so each case is a process.

use std::path::Path;

use chunk_sync_testkit::certificates::Authority;
use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};
use chunk_sync_testkit::tls_front::front;
use serde_json::Value;

use crate::environment::Environment;
use crate::proxy::port_of;

const KEY: &str = "the-key-of-the-test";

/// What `doctor` reports of Qdrant's server: level, and text with remedy.
fn reported(environment: &Environment, url: &str, key: &str, trusted: Option<&Path>) -> (String, String) {
    let mut doctor = environment.program(&["doctor", "--json"]);
    doctor.env("CHUNK_SYNC__QDRANT__URL", url).env("CHUNK_SYNC__QDRANT__API_KEY", key);
    if let Some(file) = trusted {
        doctor.env("SSL_CERT_FILE", file);
    }
    let report: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of_server = |finding: &&Value| finding["place"] == "qdrant" && finding["subject"] == "server";
    // The version comes first; a call that fails after it is a second finding.
    let finding = findings.iter().rev().find(of_server).unwrap_or_else(|| panic!("{report:#}"));
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    (text("level"), format!("{}; {}", text("text"), text("remedy")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_keys_and_schemes_of_qdrant_are_verified_and_what_is_wrong_is_named() {
    let environment = Environment::new().await;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { api_key: Some(KEY.to_owned()), ..Options::default() };
    let server = QdrantServer::start(dir.path(), &options).await;
    let plain = port_of(server.url());
    let address = format!("127.0.0.1:{plain}");
    let (authority, other) = (Authority::new(), Authority::new());
    let (good, alone) = (authority.sign(&["localhost"]), authority.self_signed(&["localhost"]));
    let (expired, elsewhere) = (authority.sign_expired(&["localhost"]), authority.sign(&["db.example"]));
    let port = front(&good, None, &address).await;
    let https = |port: u16| format!("https://localhost:{port}");
    let http = |port: u16| format!("http://localhost:{port}");
    for (case, url, key, trusted, level, words) in [
        ("right authority", https(port), KEY, Some(&authority), "ok", ""),
        ("wrong authority", https(port), KEY, Some(&other), "failed", "self-signed, or its authority is not trusted"),
        ("no authority", https(port), KEY, None, "failed", "SSL_CERT_FILE"),
        ("self-signed", https(front(&alone, None, &address).await), KEY, Some(&authority), "failed", "self-signed"),
        ("expired", https(front(&expired, None, &address).await), KEY, Some(&authority), "failed", "has expired"),
        ("wrong name", https(front(&elsewhere, None, &address).await), KEY, Some(&authority), "failed", "another name"),
        (
            "client certificate",
            https(front(&good, Some(&authority), &address).await),
            KEY,
            Some(&authority),
            "failed",
            "requires a certificate of the client, which the client of Qdrant cannot show",
        ),
        ("plain text to TLS", http(port), KEY, None, "failed", "speaks TLS; write https://localhost"),
        ("TLS to plain text", https(plain), KEY, Some(&authority), "failed", "does not speak TLS on this port"),
        ("wrong key", https(port), "another", Some(&authority), "failed", "set qdrant.api_key"),
        ("no key", http(plain), "", None, "failed", "set qdrant.api_key"),
    ] {
        let (found, text) = reported(&environment, &url, key, trusted.map(|authority| authority.file.as_path()));
        assert!(found == level && text.contains(words), "{case}: {found}: {text}");
        assert!(!text.contains(KEY), "{case}: {text}");
    }
}
