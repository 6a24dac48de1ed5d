//! What must not leak into the log when the stores are servers, whose clients log too.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use serde_json::Value;

use crate::environment::{Environment, lines, variable};

const TEXT: &str = "the-planted-text-of-a-chunk";
const NUMBER: &str = "0.71875";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_detailed_log_shows_neither_texts_nor_vectors_nor_passwords() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let mut chunk: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    chunk["content"] = TEXT.into();
    chunk["embeddings"]["dense"]["vector"][0] = NUMBER.parse::<f64>().unwrap().into();
    environment.publish_lines(&[chunk.to_string()]);
    environment
        .sql("INSERT INTO unified.chunks (id, content) SELECT gen_random_uuid(), 'the-planted-text-of-a-row'")
        .await;
    let mut command = environment.program(&["run", "--drain"]);
    let Output { status, stderr, .. } = command.env("CHUNK_SYNC__LOG__LEVEL", "trace").output().unwrap();
    let log = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{log}");
    assert!(log.contains("service started"), "nothing was logged: {log}");
    let url = variable("CHUNK_SYNC_TEST_PG18_URL");
    let of_url = url.split('@').next().and_then(|account| account.rsplit(':').next()).unwrap();
    let neo4j = variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD");
    for secret in [TEXT, NUMBER, "the-planted-text-of-a-row", of_url, &neo4j] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// What a page answers, with its headers; nothing as long as the service does not listen.
pub(crate) fn page(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer w\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_and_no_report_shows_a_secret() {
    const TOKEN: &str = "the-planted-token-of-http";
    const KEY: &str = "the-planted-key-of-qdrant";
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let variables = [
        ("CHUNK_SYNC__HTTP__LISTEN", listen.as_str()),
        ("CHUNK_SYNC__HTTP__TOKEN", TOKEN),
        ("CHUNK_SYNC__QDRANT__API_KEY", KEY),
        ("PGPASSWORD", "the-planted-variable"),
    ];
    let run = environment.go_on(&[], &variables);
    environment.publish(3);
    environment.visible("the pages", || async { page(port, "GET /healthz").is_some() }).await;
    environment.settled().await;
    let paths = [
        "/",
        "/page.js",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/status",
        "/v1/history",
        "/v1/dead",
        "/v1/conflicts",
        "/v1/nowhere?token=w",
        "/v1/chunks/00000000-0000-0000-0000-000000000001",
    ];
    let mut shown: Vec<String> = paths.iter().map(|path| page(port, &format!("GET {path}")).unwrap()).collect();
    shown.push(page(port, "POST /v1/events").unwrap());
    for command in ["doctor", "status", "verify"] {
        for json in [&[][..], &["--json"]] {
            let arguments = [&[command][..], json].concat();
            let output = environment.program(&arguments).envs(variables).output().unwrap();
            shown.extend([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    run.terminate();
    let url = variable("CHUNK_SYNC_TEST_PG18_URL");
    let of_url = url.split('@').next().and_then(|account| account.rsplit(':').next()).unwrap();
    let neo4j = variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD");
    for text in &shown {
        for secret in [TOKEN, KEY, "the-planted-variable", &format!(":{of_url}@"), &neo4j] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    assert!(shown.iter().any(|text| text.contains("chunk_sync_")), "the metrics were not read");
}
