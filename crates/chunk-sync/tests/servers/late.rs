//! A write that the network held back arrives after another process has deleted its chunk: it stays for a minute at most, also
//! without the scrubber. In Qdrant, where one request is a whole write: in Neo4j the process must live until the commit.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::environment::{Environment, lines};
use crate::proxy::{LinkState, Proxy, port_of};

/// How long a late write may stay visible.
const LONGEST: Duration = Duration::from_secs(60);

const NO_SCRUB: (&str, &str) = ("CHUNK_SYNC__SCRUB__ENABLED", "false");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_write_of_a_deleted_chunk_is_gone_within_a_minute() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let link = Proxy::to(port_of(&environment.qdrant)).await;
    let through = link.url(&environment.qdrant);
    let mut chunk: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    let id: Uuid = chunk["id"].as_str().unwrap().parse().unwrap();
    let first = environment.go_on(&[], &[NO_SCRUB, ("CHUNK_SYNC__QDRANT__URL", &through)]);
    environment.publish_lines(&[chunk.to_string()]);
    environment.visible("the chunk", || environment.has_point(id)).await;
    environment.settled().await;
    // The first process writes, and is stopped before the server gets the bytes.
    link.turns(LinkState::Stalled);
    let content = "a change that arrives late ".repeat(100);
    chunk["content"] = content.trim().into();
    chunk["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
    environment.publish_lines(&[chunk.to_string()]);
    environment.visible("the write", || async { link.held() > content.len() }).await;
    let signal = |name: &str| Command::new("kill").args([name, &first.id().to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    let wal = environment.log().with_file_name("wal-of-the-second");
    let second = environment.go_on(&[], &[NO_SCRUB, ("CHUNK_SYNC__WAL__DIR", wal.to_str().unwrap())]);
    let deletion = json!({
        "event_id": Uuid::new_v4(), "type": "delete", "source": "claude", "chunk": { "id": id },
        "targets": ["postgres", "qdrant", "neo4j"], "timestamp": jiff::Timestamp::now().to_string(),
    });
    environment.publish_lines(&[deletion.to_string()]);
    let gone = || async { !environment.has_point(id).await && !environment.has_node(id).await };
    environment.visible("the deletion", gone).await;
    environment.settled().await;
    link.turns(LinkState::Fair);
    let began = Instant::now();
    environment.visible("the late write", || environment.has_point(id)).await;
    environment.visible("the end of the late write", gone).await;
    eprintln!("the late write was gone after {:.1} s", began.elapsed().as_secs_f64());
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    assert!(signal("-CONT").success());
    first.kill();
    second.terminate();
    environment.assert_equal(0);
}
