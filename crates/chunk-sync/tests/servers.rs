//! The program as a user runs it, on real servers: events that are published or added by any Redis client, and rows written
//! by SQL, reach every store exactly once, whichever process is killed meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "servers/crash_points.rs"]
mod crash_points;
#[path = "servers/drill.rs"]
mod drill;
#[path = "servers/faults.rs"]
mod faults;
#[path = "servers/clients.rs"]
mod hands;
#[path = "servers/oracle.rs"]
mod oracle;
#[path = "servers/environment.rs"]
mod place;
#[path = "servers/proxy.rs"]
mod proxy;
#[path = "servers/scenarios.rs"]
mod scenarios;
#[path = "servers/slot.rs"]
mod slot;
#[path = "servers/tls.rs"]
mod tls;
#[path = "servers/link_state.rs"]
mod weather;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chunk_sync_wal::disk::RealDisk;
use place::Place;
use serde_json::Value;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_chunks_reach_all_three_servers() {
    let place = Place::new().await;
    let plan = place.fine(&["init", "--dry-run"]);
    for word in
        ["unified", "unified_chunks_pub_", "chunk_sync_slot_", "/collections/unified_chunks", "CONSTRAINT", "XGROUP"]
    {
        assert!(plan.contains(word), "no {word} in:\n{plan}");
    }
    assert_eq!(place.fine(&["init", "--dry-run"]), plan, "a dry run creates nothing");
    place.fine(&["init"]);
    place.fine(&["init"]);
    place.publish(300);
    place.fine(&["run", "--drain"]);
    place.assert_equal(300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_by_sql_are_captured_once() {
    let place = Place::new().await;
    place.fine(&["init"]);
    let _run = place.start();
    place.publish(20);
    let id = Uuid::new_v4();
    place.sql(&format!(
        "INSERT INTO unified.chunks (id, content, chunk_type, embedding_model, dense_vector, metadata, created_at, updated_at)
         VALUES ('{id}', 'a row written by hand', 'text', 'gte', array_fill(0.5::real, ARRAY[768])::vector,
                 '{{\"topic\": \"tea\"}}', now(), now())"
    ))
    .await;
    place.visible("the row", || place.point_says(id, "topic", "tea")).await;
    place.visible("its node", || place.has_node(id)).await;
    let change = format!(
        "UPDATE unified.chunks SET metadata = jsonb_set(metadata, '{{topic}}', '\"coffee\"'), updated_at = now() WHERE id = '{id}'"
    );
    place.sql(&change).await;
    place.visible("its metadata", || place.point_says(id, "topic", "coffee")).await;
    let change =
        format!("UPDATE unified.chunks SET content = 'another text than before', updated_at = now() WHERE id = '{id}'");
    place.sql(&change).await;
    place.visible("its content", || place.point_is(id, "content", "another text than before")).await;
    place.settled().await;
    place.assert_equal(21);
    assert_eq!(place.entries_added().await, 20 + 3, "one entry per change, and none for the service's own writes");
    place.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
    place.visible("its end", || async { !place.has_node(id).await && !place.has_point(id).await }).await;
    place.settled().await;
    place.assert_equal(20);
    place.sql("TRUNCATE unified.chunks").await;
    place.visible("the end of all", || async { place.nodes().await == 0 }).await;
    place.settled().await;
    place.assert_equal(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_by_any_client_is_applied_and_an_invalid_one_dead_lettered() {
    let place = Place::new().await;
    place.fine(&["init"]);
    let chunk = &place::lines(1)[0];
    let id: Uuid = serde_json::from_str::<Value>(chunk).unwrap()["id"].as_str().unwrap().parse().unwrap();
    let fields = |kind: &'static str| {
        let event = Uuid::new_v4().to_string();
        let at = "2026-03-01T12:00:00Z".to_owned();
        let targets = r#"["postgres", "qdrant", "neo4j"]"#.to_owned();
        [("event_id", event), ("type", kind.to_owned()), ("source", "claude".to_owned()), ("targets", targets)]
            .into_iter()
            .chain([("chunk", chunk.clone()), ("timestamp", at)])
            .collect::<Vec<_>>()
    };
    place.add(&fields("create")).await;
    place.add(&fields("creation")).await;
    place.fine(&["run", "--drain"]);
    assert!(place.has_node(id).await && place.has_point(id).await);
    place.assert_equal(1);
    let dead = place.dead().await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["field"], "type", "{dead:?}");
    assert_eq!(dead[0]["type"], "creation", "the original fields are unchanged: {dead:?}");
    assert!(dead[0]["error"].contains("creation"), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_under_load_loses_nothing() {
    let place = Place::new().await;
    place.fine(&["init"]);
    place.publish(1_500);
    for _ in 0..3 {
        let before = place.nodes().await;
        let run = place.start();
        place.visible("some progress", || async { place.nodes().await > before + 50 }).await;
        run.kill();
    }
    place.fine(&["run", "--drain"]);
    place.assert_equal(1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_services_one_captures_and_the_other_takes_over() {
    let place = Place::new().await;
    place.fine(&["init"]);
    let first = place.start();
    place.visible("an active slot", || place.captured_by_somebody()).await;
    let second = place.start();
    place.publish(200);
    let row = |id: Uuid| {
        format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
             VALUES ('{id}', 'a row written by hand', 'text', now(), now())"
        )
    };
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    place.sql(&row(one)).await;
    place.visible("the first row", || place.has_node(one)).await;
    first.kill();
    let began = Instant::now();
    place.sql(&row(other)).await;
    place.visible("the second row", || place.has_node(other)).await;
    eprintln!("visible {:.1} s after the capturing service was killed", began.elapsed().as_secs_f64());
    assert!(began.elapsed() < Duration::from_secs(30));
    place.settled().await;
    place.assert_equal(202);
    second.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_completes_although_the_service_that_held_the_log_ends_meanwhile() {
    let place = Place::new().await;
    place.fine(&["init"]);
    place.publish(20);
    place.fine(&["run", "--drain"]);
    place.lose_nodes().await;
    let log = RealDisk::locked(&place.log()).unwrap();
    let mut repair = place.program(&["verify", "--repair"]);
    let mut repair = repair.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(repair.stderr.take().unwrap()).lines();
    let waits = said.find(|line| line.as_ref().unwrap().contains("carries out the repair"));
    assert!(waits.is_some(), "`verify --repair` did not report that it waits");
    drop(log);
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || repair.wait().unwrap()).await.unwrap();
    assert!(ended.success() && began.elapsed() < Duration::from_secs(30), "{ended} after {:?}", began.elapsed());
    place.assert_equal(20);
}
