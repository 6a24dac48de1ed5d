//! What must not leak into the log when the stores are servers, whose clients log too.

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
