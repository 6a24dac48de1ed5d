//! What is held of a deleted text, in any place that the service writes, is erased on request; nothing that lives is.

use std::process::Output;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::environment::{Environment, lines};

const SECRET: &str = "SECRET-4711";

/// Every place that holds the text: tables, streams, files of the log.
async fn places(environment: &Environment) -> Vec<String> {
    places_and_log(environment, &environment.log()).await
}

async fn places_and_log(environment: &Environment, log: &std::path::Path) -> Vec<String> {
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut places = Vec::new();
    for table in environment.tables().await {
        let rows =
            format!("SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%{SECRET}%' OR t::text LIKE '%{hex}%'");
        if environment.count(&rows).await > 0 {
            places.push(table);
        }
    }
    for (stream, entries) in [("stream", environment.entries().await), ("dead", environment.dead().await)] {
        if format!("{entries:?}").contains(SECRET) {
            places.push(stream.to_owned());
        }
    }
    for file in std::fs::read_dir(log).unwrap() {
        let path = file.unwrap().path();
        if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(SECRET) {
            places.push("log".to_owned());
        }
    }
    places
}

fn erase(environment: &Environment, arguments: &[&str]) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } =
        environment.program(&[&["erase", "--json"], arguments].concat()).output().unwrap();
    let result = serde_json::from_slice(&stdout);
    (status.code(), result.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr))))
}

/// A chunk that two writers published with different texts, and a dead letter about it. Returns its id.
async fn disputed(environment: &Environment) -> Uuid {
    let mut chunk: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    for (writer, text) in [("claude", "one"), ("cognee", "two"), ("claude", "three")] {
        chunk["system_origin"] = writer.into();
        chunk["content"] = format!("{text}: {SECRET}").into();
        chunk["metadata"]["note"] = format!("{text} {SECRET}").into();
        chunk["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
        environment.publish_lines(&[chunk.to_string()]);
    }
    let fields = ["event_id", "type", "source", "targets", "timestamp"].into_iter().zip([
        Uuid::new_v4().to_string(),
        "creation".to_owned(),
        "claude".to_owned(),
        r#"["qdrant"]"#.to_owned(),
        "2026-03-01T12:00:00Z".to_owned(),
    ]);
    environment.add(&fields.chain([("chunk", chunk.to_string())]).collect::<Vec<_>>()).await;
    environment.visible("the dead letter", || async { environment.dead().await.len() == 1 }).await;
    environment.settled().await;
    chunk["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_text_is_gone_from_every_place_once_it_is_erased() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let run = environment.go_on(&[], &[]);
    let id = disputed(&environment).await;
    let (code, lives) = erase(&environment, &[&id.to_string()]);
    let refused = lives["chunks"][0]["refused"].as_str().unwrap();
    assert!(code == Some(1) && refused.contains("lives"), "{lives}");
    let delete = json!({
        "event_id": Uuid::new_v4(), "type": "delete", "source": "claude", "targets": ["postgres", "qdrant", "neo4j"],
        "chunk": {"id": id}, "timestamp": jiff::Timestamp::now().to_string(),
    });
    environment.publish_lines(&[delete.to_string()]);
    environment.settled().await;
    environment
        .visible("its end", || async { !environment.has_node(id).await && !environment.has_point(id).await })
        .await;
    let before = places(&environment).await;
    for place in ["chunk_sync.records", "chunk_sync.conflicts", "dead", "log"] {
        assert!(before.iter().any(|found| found == place), "{place} does not have the text: {before:?}");
    }

    let (code, dry) = erase(&environment, &["--dry-run", &id.to_string()]);
    assert!(code == Some(0) && places(&environment).await == before, "a dry run removes nothing: {dry}");
    // The service has the directory of the log.
    let (code, receipt) = erase(&environment, &[&id.to_string()]);
    assert_eq!(code, Some(0), "{receipt}");
    assert_eq!(receipt["chunks"][0]["places"], dry["chunks"][0]["places"]);
    assert_eq!(receipt["log"]["result"], "by_service", "{receipt}");
    assert!(receipt["not_reached"].as_array().unwrap().len() > 4, "{receipt}");
    assert_eq!(places(&environment).await, Vec::<String>::new());

    // The tombstone stays: an update by a writer that knew the chunk does not bring it back.
    let mut late: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    (late["id"], late["system_origin"]) = (id.to_string().into(), "cognee".into());
    late["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
    environment.publish_lines(&[late.to_string()]);
    environment.settled().await;
    assert!(!environment.has_node(id).await && !environment.has_point(id).await);
    environment.assert_equal(0);
    run.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_no_service_holds_is_erased_by_the_command() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let run = environment.go_on(&[], &[]);
    let id = disputed(&environment).await;
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
    environment
        .visible("its end", || async { !environment.has_node(id).await && !environment.has_point(id).await })
        .await;
    environment.settled().await;
    run.terminate();
    let (code, receipt) = erase(&environment, &[&id.to_string()]);
    assert!(code == Some(0) && receipt["log"]["operations"].as_u64().is_some_and(|count| count > 0), "{receipt}");
    assert_eq!(places(&environment).await, Vec::<String>::new());
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(0);
}

/// A process that worked the stream before keeps its own log, to which no other process has access.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_standby_is_named_and_erased_with_its_own_directory() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let first = environment.go_on(&[], &[]);
    let id = disputed(&environment).await;
    // The next process has another directory.
    let dir = tempfile::TempDir::new().unwrap();
    let variables = [("CHUNK_SYNC__WAL__DIR", dir.path().to_str().unwrap())];
    first.terminate();
    let second = environment.go_on(&[], &variables);
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
    environment
        .visible("its end", || async { !environment.has_node(id).await && !environment.has_point(id).await })
        .await;
    environment.settled().await;
    let mut erase_there = environment.program(&["erase", "--json", &id.to_string()]);
    let output = erase_there.envs(variables).output().unwrap();
    let receipt: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && receipt["log"]["result"] == "by_service", "{receipt}");
    let named = receipt["not_reached"].as_array().unwrap().iter();
    assert!(named.filter_map(Value::as_str).any(|place| place.contains("logs of other processes")), "{receipt}");
    assert_eq!(places_and_log(&environment, dir.path()).await, Vec::<String>::new());
    assert_eq!(places(&environment).await, ["log"]);
    let (code, receipt) = erase(&environment, &[&id.to_string()]);
    assert!(code == Some(0) && receipt["log"]["operations"].as_u64().is_some_and(|count| count > 0), "{receipt}");
    assert_eq!(places(&environment).await, Vec::<String>::new());
    second.terminate();
}
