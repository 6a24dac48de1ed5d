//! The program as a user runs it, on real servers: events that are published or added by any Redis client, and rows written
//! by SQL, reach every store exactly once, whichever process is killed meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "servers/absent.rs"]
mod absent;
#[path = "servers/application.rs"]
mod application;
#[path = "servers/bounds.rs"]
mod bounds;
#[path = "servers/clients.rs"]
mod clients;
#[path = "servers/crash_points.rs"]
mod crash_points;
#[path = "servers/doctor.rs"]
mod doctor;
#[path = "servers/drill.rs"]
mod drill;
#[path = "servers/environment.rs"]
mod environment;
#[path = "servers/erase.rs"]
mod erase;
#[path = "servers/faults.rs"]
mod faults;
#[path = "servers/field.rs"]
mod field;
#[path = "servers/fresh.rs"]
mod fresh;
#[path = "servers/guide.rs"]
mod guide;
#[path = "servers/hidden.rs"]
mod hidden;
#[path = "servers/hub.rs"]
mod hub;
#[path = "servers/leaks.rs"]
mod leaks;
#[path = "servers/link_faults.rs"]
mod link_faults;
#[path = "servers/oracle.rs"]
mod oracle;
#[path = "servers/ordinary.rs"]
mod ordinary;
#[path = "servers/partitions.rs"]
mod partitions;
#[path = "servers/proxy.rs"]
mod proxy;
#[path = "servers/rights.rs"]
mod rights;
#[path = "servers/scenarios.rs"]
mod scenarios;
#[path = "servers/settings.rs"]
mod settings;
#[path = "servers/slot.rs"]
mod slot;
#[path = "servers/stream.rs"]
mod stream;
#[path = "servers/tls.rs"]
mod tls;
#[path = "servers/vectors_tls.rs"]
mod vectors_tls;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chunk_sync_wal::disk::RealDisk;
use environment::Environment;
use serde_json::Value;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_chunks_reach_all_three_servers() {
    let environment = Environment::new().await;
    let plan = environment.fine(&["init", "--dry-run"]);
    for word in
        ["unified", "unified_chunks_pub_", "chunk_sync_slot_", "/collections/unified_chunks", "CONSTRAINT", "XGROUP"]
    {
        assert!(plan.contains(word), "no {word} in:\n{plan}");
    }
    assert_eq!(environment.fine(&["init", "--dry-run"]), plan, "a dry run creates nothing");
    environment.fine(&["init"]);
    environment.fine(&["init"]);
    environment.publish(300);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lists_only_what_is_missing() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let plan = || {
        let plan: Value = serde_json::from_str(&environment.fine(&["init", "--dry-run", "--json"])).unwrap();
        let statements = plan["statements"].as_array().unwrap().iter();
        statements.map(|pair| pair[1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(plan(), Vec::<String>::new());
    assert!(environment.fine(&["init", "--dry-run"]).contains("nothing is missing"));
    environment.graph.run(neo4rs::query("DROP CONSTRAINT chunk_sync_entity_id")).await.unwrap();
    let (stream, group) = (format!("{}:stream", environment.name), "sync-workers");
    let mut destroy = redis::cmd("XGROUP");
    destroy.arg("DESTROY").arg(&stream).arg(group).exec_async(&mut environment.redis.clone()).await.unwrap();
    let wanted = [
        "CREATE CONSTRAINT chunk_sync_entity_id IF NOT EXISTS FOR (n:Entity) REQUIRE n.id IS UNIQUE".to_owned(),
        format!("XGROUP CREATE {stream} {group} 0 MKSTREAM"),
    ];
    assert_eq!(plan(), wanted);
    environment.fine(&["init"]);
    assert_eq!(plan(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_by_sql_are_captured_once() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let _run = environment.start();
    environment.publish(20);
    let id = Uuid::new_v4();
    environment.sql(&format!(
        "INSERT INTO unified.chunks (id, content, chunk_type, embedding_model, dense_vector, metadata, created_at, updated_at)
         VALUES ('{id}', 'a row written by hand', 'text', 'gte', array_fill(0.5::real, ARRAY[768])::vector,
                 '{{\"topic\": \"tea\"}}', now(), now())"
    ))
    .await;
    environment.visible("the row", || environment.point_says(id, "topic", "tea")).await;
    environment.visible("its node", || environment.has_node(id)).await;
    let change = format!(
        "UPDATE unified.chunks SET metadata = jsonb_set(metadata, '{{topic}}', '\"coffee\"'), updated_at = now() WHERE id = '{id}'"
    );
    environment.sql(&change).await;
    environment.visible("its metadata", || environment.point_says(id, "topic", "coffee")).await;
    let change =
        format!("UPDATE unified.chunks SET content = 'another text than before', updated_at = now() WHERE id = '{id}'");
    environment.sql(&change).await;
    environment.visible("its content", || environment.point_is(id, "content", "another text than before")).await;
    environment.settled().await;
    environment.assert_equal(21);
    assert_eq!(
        environment.entries_added().await,
        20 + 3,
        "one entry per change, and none for the service's own writes"
    );
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
    environment
        .visible("its end", || async { !environment.has_node(id).await && !environment.has_point(id).await })
        .await;
    environment.settled().await;
    environment.assert_equal(20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_by_any_client_is_applied_and_an_invalid_one_dead_lettered() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let chunk = &environment::lines(1)[0];
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
    environment.add(&fields("create")).await;
    environment.add(&fields("creation")).await;
    environment.fine(&["run", "--drain"]);
    assert!(environment.has_node(id).await && environment.has_point(id).await);
    environment.assert_equal(1);
    let dead = environment.dead().await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["field"], "type", "{dead:?}");
    assert_eq!(dead[0]["type"], "creation", "the original fields are unchanged: {dead:?}");
    assert!(dead[0]["error"].contains("creation"), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_under_load_loses_nothing() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(1_500);
    for _ in 0..3 {
        let before = environment.nodes().await;
        let run = environment.start();
        environment.visible("some progress", || async { environment.nodes().await > before + 50 }).await;
        run.kill();
    }
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_services_one_captures_and_the_other_takes_over() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let first = environment.start();
    environment.visible("an active slot", || environment.captured_by_somebody()).await;
    let second = environment.start();
    environment.publish(200);
    let row = |id: Uuid| {
        format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
             VALUES ('{id}', 'a row written by hand', 'text', now(), now())"
        )
    };
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    environment.sql(&row(one)).await;
    environment.visible("the first row", || environment.has_node(one)).await;
    first.kill();
    let began = Instant::now();
    environment.sql(&row(other)).await;
    environment.visible("the second row", || environment.has_node(other)).await;
    eprintln!("visible {:.1} s after the capturing service was killed", began.elapsed().as_secs_f64());
    assert!(began.elapsed() < Duration::from_secs(30));
    environment.settled().await;
    environment.assert_equal(202);
    second.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_completes_although_the_service_that_held_the_log_ends_meanwhile() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(20);
    environment.fine(&["run", "--drain"]);
    environment.lose_nodes().await;
    let log = RealDisk::locked(&environment.log()).unwrap();
    let mut repair = environment.program(&["verify", "--repair"]);
    let mut repair = repair.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(repair.stderr.take().unwrap()).lines();
    let waits = said.find(|line| line.as_ref().unwrap().contains("carries out the repair"));
    assert!(waits.is_some(), "`verify --repair` did not report that it waits");
    drop(log);
    let began = Instant::now();
    let ended = tokio::task::spawn_blocking(move || repair.wait().unwrap()).await.unwrap();
    assert!(ended.success() && began.elapsed() < Duration::from_secs(30), "{ended} after {:?}", began.elapsed());
    environment.assert_equal(20);
}
