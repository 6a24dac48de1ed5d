//! `doctor` on broken set-ups of Redis, Qdrant and Neo4j: what it reports of each, and in which words.

use std::io::{Read, Write};
use std::net::TcpListener;

use neo4rs::query;
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, VectorParamsBuilder, VectorsConfigBuilder};
use serde_json::Value;

use crate::environment::{Environment, variable};

/// A broken set-up: the variables that break it, and what `doctor` must report.
struct Broken<'a> {
    variables: &'a [(&'a str, &'a str)],
    place: &'a str,
    subject: &'a str,
    words: &'a [&'a str],
}

/// A port that answers HTTP/1, as Qdrant's REST port does.
fn rest_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    format!("http://127.0.0.1:{port}")
}

fn set_up<'a>(
    variables: &'a [(&'a str, &'a str)],
    place: &'a str,
    subject: &'a str,
    words: &'a [&'a str],
) -> Broken<'a> {
    Broken { variables, place, subject, words }
}

fn assert_reported(environment: &Environment, broken: &Broken<'_>) {
    let Broken { variables, place, subject, words } = broken;
    let variables = || variables.iter().copied();
    let output = environment.program(&["doctor", "--json"]).envs(variables()).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let at = |finding: &&Value| finding["place"] == *place && finding["subject"] == *subject;
    let finding = findings.iter().find(at).unwrap_or_else(|| panic!("no {place}: {subject} in {report:#}"));
    assert!(finding["level"] == "failed" || finding["level"] == "unreachable", "{finding:#}");
    let said = format!("{}; {}", finding["text"].as_str().unwrap(), finding["remedy"].as_str().unwrap_or_default());
    let shown = environment.program(&["doctor", "--problems"]).envs(variables()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    eprintln!("{place}: {subject}\n{shown}");
    for words in *words {
        assert!(said.contains(words), "no `{words}` in {finding:#}");
        assert!(shown.contains(words), "no `{words}` in:\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_broken_installations_are_reported_with_the_remedy() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let mut dense = VectorsConfigBuilder::default();
    dense.add_named_vector_params("dense_gte", VectorParamsBuilder::new(384, Distance::Cosine));
    let by_hand = CreateCollectionBuilder::new("by_hand").vectors_config(dense);
    environment.vectors.create_collection(by_hand).await.unwrap();
    let (rest, redis) = (rest_port(), variable("CHUNK_SYNC_TEST_REDIS_URL"));
    let with_password = redis.replacen("redis://", "redis://:wr0ng@", 1);

    for broken in [
        set_up(
            &[("CHUNK_SYNC__QDRANT__URL", &*rest)],
            "qdrant",
            "server",
            &["answers HTTP/1", "http://127.0.0.1:6334"][..],
        ),
        set_up(&[("CHUNK_SYNC__QDRANT__COLLECTION", "by_hand")], "qdrant", "collection", &["384 numbers, but 768"]),
        set_up(&[("CHUNK_SYNC__QDRANT__URL", "http://db.example:6334")], "qdrant", "link", &["no verified TLS"]),
        set_up(&[("CHUNK_SYNC__NEO4J__DATABASE", "graph")], "neo4j", "server", &["`graph` does not exist", "`neo4j`"]),
        set_up(&[("CHUNK_SYNC__NEO4J__USER", "stranger")], "neo4j", "server", &["Unauthorized"]),
        set_up(&[("CHUNK_SYNC__NEO4J__URL", "bolt+ssc://db.example")], "neo4j", "link", &["no verified TLS"]),
        set_up(&[("CHUNK_SYNC__REDIS__URL", &*with_password)], "redis", "server", &["check user and password"]),
        set_up(&[("CHUNK_SYNC__REDIS__URL", "rediss://db.example:6379")], "redis", "link", &["no password"]),
        set_up(
            &[("CHUNK_SYNC__REDIS__URL", "redis://mymaster/0"), ("CHUNK_SYNC__REDIS__SENTINELS", "127.0.0.1:1")],
            "redis",
            "server",
            &["no Sentinel names the master `mymaster`", "redis.sentinels"],
        ),
    ] {
        assert_reported(&environment, &broken);
    }
    let index = query("DROP CONSTRAINT chunk_sync_chunk_id");
    environment.graph.run(index).await.unwrap();
    environment.graph.run(query("CREATE INDEX theirs FOR (n:Chunk) ON (n.id)")).await.unwrap();
    let obstructed = set_up(&[], "neo4j", "constraints", &["`theirs` on Chunk.id", "DROP INDEX `theirs`"]);
    let reported =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert_reported(&environment, &obstructed)));
    environment.graph.run(query("DROP INDEX theirs")).await.unwrap();
    environment.fine(&["init"]);
    reported.unwrap();
}
