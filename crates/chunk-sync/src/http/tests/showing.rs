//! The read-only routes: page, health, readiness, metrics, status.

use std::collections::BTreeMap;

use chunk_sync_engine::ports::{FaultClass, PendingWrite};
use chunk_sync_engine::scrub::Scrubbed;
use chunk_sync_engine::verify::{Kind, Report, StoreReport};
use chunk_sync_model::{SyncVersion, Target};
use chunk_sync_wal::{Options, Pending, Wal};
use serde_json::json;
use tempfile::TempDir;

use super::client::Request;
use super::ports::{Faults, World};
use super::{SECRET, Server, event};
use crate::status::Status;

#[tokio::test]
async fn a_working_service_is_healthy_and_ready() {
    let server = Server::open().await;
    server.until(chunk_sync_engine::Health::is_ready).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), json!({"ready": true, "capture": null, "waiting_for": [], "failing": []}));
    assert_eq!(Request::new("HEAD", "/readyz").send(server.address).await.status, 200);
}

#[tokio::test]
async fn a_worker_that_stopped_with_a_fault_makes_the_service_unhealthy_with_the_reason() {
    let server = Server::open().await;
    server.world.faults().dead_letter = Some(FaultClass::Corrupt);
    server.world.malformed();
    server.until(|health| health.ended.is_some()).await;
    let health = server.get("/healthz").await;
    assert_eq!(health.status, 503);
    assert!(health.json()["error"].as_str().unwrap().contains("dead letter: injected by the test"), "{}", health.body);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.json()["waiting_for"][0].as_str().unwrap().contains("dead letter: injected by the test"),
        "{}",
        ready.body
    );
}

#[tokio::test]
async fn a_failing_system_of_record_makes_the_service_unready_but_not_unhealthy() {
    let server = Server::guarded().await;
    server.world.faults().records = Some(FaultClass::Unavailable);
    assert_eq!(server.post(Request::json(&event())).await.status, 202);
    server.until(|health| health.records.is_some()).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.json(), json!({"ready": false}), "details need the token");
    let ready = Request::get("/readyz").token(SECRET).send(server.address).await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["waiting_for"][0].as_str().unwrap().contains("system of record"), "{}", ready.body);
    assert_eq!(ready.json()["failing"][0]["target"], "postgres");
    server.world.faults().records = None;
    server.until(chunk_sync_engine::Health::is_ready).await;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_failing_projection_is_reported_and_leaves_the_service_ready() {
    let server = Server::guarded().await;
    server.world.faults().projections = Some(FaultClass::Timeout);
    assert_eq!(server.post(Request::json(&event())).await.status, 202);
    server.until(|health| health.stores.iter().all(|(_, store)| store.failing.is_some())).await;
    let ready = Request::get("/readyz").token(SECRET).send(server.address).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["failing"][0]["target"], "qdrant");
    assert_eq!(ready.json()["failing"][1]["failing"]["class"], "timeout");
    let status = Request::get("/v1/status").token(SECRET).send(server.address).await.json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["stores"][1]["failing"]["fault"], "projection: injected by the test");
}

#[tokio::test]
async fn the_service_is_not_ready_while_it_replays_the_log() {
    let dir = TempDir::new().unwrap();
    let (mut wal, _) = Wal::open(dir.path(), Options { max_bytes: 1 << 20 }).unwrap();
    let operation = event().to_string();
    wal.append(&[Pending::new("one-1", &operation)], jiff::Timestamp::now()).unwrap();
    drop(wal);
    let world = World::default();
    *world.faults() = Faults { records: Some(FaultClass::Unavailable), ..Faults::default() };
    let server = Server::start(world, dir, None).await;
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["waiting_for"][0].as_str().unwrap().contains("replayed"), "{}", ready.body);
    assert_eq!(server.get("/v1/status").await.json()["recovered"], json!(null));
    server.world.faults().records = None;
    server.until(chunk_sync_engine::Health::is_ready).await;
    assert_eq!(server.get("/v1/status").await.json()["recovered"]["replayed"], 1);
}

#[tokio::test]
async fn the_five_metric_families_exist_with_every_label_before_the_first_event() {
    let server = Server::open().await;
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for source in ["claude", "cognee", "hybrid", "postgres"] {
        for target in ["postgres", "qdrant", "neo4j"] {
            let of = format!("source=\"{source}\",target=\"{target}\"");
            for kind in ["create", "update", "delete"] {
                assert!(metrics.body.contains(&format!("sync_events_total{{{of},type=\"{kind}\"}} ")), "{of} {kind}");
            }
            for class in FaultClass::ALL {
                let class = class.as_str();
                assert!(
                    metrics.body.contains(&format!("sync_errors_total{{{of},error_type=\"{class}\"}} ")),
                    "{of} {class}"
                );
            }
            assert!(metrics.body.contains(&format!("sync_lag_seconds{{{of}}} ")), "{of}");
        }
    }
    for operation in ["capture", "wal", "merge", "apply_postgres", "apply_qdrant", "apply_neo4j", "settle"] {
        for bound in ["0.0001", "0.01", "10", "+Inf"] {
            let bucket = format!("sync_duration_seconds_bucket{{operation=\"{operation}\",le=\"{bound}\"}} ");
            assert!(metrics.body.contains(&bucket), "{bucket}");
        }
    }
    assert!(metrics.body.contains("\nsync_queue_size "));
    for (name, kind) in [("events_total", "counter"), ("lag_seconds", "gauge"), ("duration_seconds", "histogram")] {
        assert!(metrics.body.contains(&format!("# HELP sync_{name} ")), "{name}");
        assert!(metrics.body.contains(&format!("# TYPE sync_{name} {kind}\n")), "{name}");
    }
}

#[tokio::test]
async fn the_status_reports_completed_queued_and_outbox_counts_and_the_last_verification() {
    let server = Server::guarded().await;
    assert_eq!(server.post(Request::json(&event())).await.status, 202);
    server.service.until_idle().await.unwrap();
    server.world.faults().projections = Some(FaultClass::Unavailable);
    server.world.enqueue(PendingWrite { id: uuid::Uuid::nil(), target: Target::Neo4j, version: SyncVersion::new(7) });
    server.until(|health| health.stores.iter().any(|(_, store)| store.failing.is_some())).await;
    server.verified.note(&Scrubbed { report: report(), repaired: 1, undecided: 0 });
    let answer = Request::get("/v1/status").token(SECRET).send(server.address).await;
    let status: Status = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((status.version.as_str(), status.roles.as_str()), (env!("CARGO_PKG_VERSION"), "embedded"));
    assert!(status.ready && status.uptime_seconds >= 0.0 && status.unknown.is_empty());
    let queue = status.queue.unwrap();
    assert_eq!((queue.unread, queue.pending, queue.dead, queue.oldest_seconds), (0, 0, 3, None));
    assert_eq!((status.done.settled, status.done.under_way), (1, 0));
    let stores: Vec<_> =
        status.stores.iter().map(|store| (store.target, store.outbox, store.failing.is_some())).collect();
    let expected =
        [(Target::Postgres, Some(0), false), (Target::Qdrant, Some(0), false), (Target::Neo4j, Some(1), true)];
    assert_eq!(stores, expected);
    let verification = status.verification.unwrap();
    assert_eq!((verification.chunks, verification.consistency, verification.repaired), (4, 75.0, 1));
    let neo4j = &verification.stores[&Target::Neo4j];
    assert_eq!((neo4j.missing, neo4j.consistency), (1, 75.0));
    let listed: Vec<_> = verification.differences.iter().map(|one| (one.store, one.kind.as_str())).collect();
    assert_eq!(listed, [(Target::Neo4j, "missing")]);
}

fn report() -> Report {
    let neo4j = StoreReport { count: 3, missing: 1, ..StoreReport::default() };
    let difference = chunk_sync_engine::verify::Difference {
        id: uuid::Uuid::nil(),
        store: Target::Neo4j,
        kind: Kind::Missing,
        fields: Vec::new(),
    };
    Report {
        consistent: false,
        chunks: 4,
        consistency: 75.0,
        stores: BTreeMap::from([(Target::Neo4j, neo4j)]),
        differences: vec![difference],
        unsettled: 0,
        stopped_after: None,
        seconds: 0.25,
        stale_embeddings: 0,
        differing: 1,
        findings: Vec::new(),
    }
}

#[tokio::test]
async fn the_status_lists_what_is_unknown_beside_what_is_known() {
    let server = Server::open().await;
    server.world.faults().depth = Some(FaultClass::Unavailable);
    let answer = server.get("/v1/status").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["queue"], json!(null));
    let unknown = ["the queue: depth: injected by the test", "the oldest entry: depth: injected by the test"];
    assert_eq!(answer.json()["unknown"], json!(unknown));
    assert_eq!(answer.json()["stores"][1]["outbox"], 0);
}

#[tokio::test]
async fn a_configured_token_is_required_for_status_and_stream_and_not_for_the_page_or_monitoring() {
    let server = Server::guarded().await;
    for path in ["/v1/status", "/v1/events/live"] {
        let refused = server.get(path).await;
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"chunk-sync\""));
    }
    assert_eq!(Request::get("/v1/status").token(SECRET).send(server.address).await.status, 200);
    server.until(chunk_sync_engine::Health::is_ready).await;
    for path in ["/", "/page.css", "/page.js", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(Server::open().await.get("/v1/status").await.status, 200);
}

#[tokio::test]
async fn the_page_loads_nothing_from_other_origins_and_has_no_inline_script_or_style() {
    let server = Server::open().await;
    let page = server.get("/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let outside = page.body.replace("http://www.w3.org/2000/svg", "");
    for inside in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:", "//"] {
        assert!(!outside.contains(inside), "{inside}");
    }
    assert_eq!(page.body.matches("<script").count(), page.body.matches("<script src=\"page.js\"").count());
    let (css, js) = (server.get("/page.css").await, server.get("/page.js").await);
    assert_eq!(css.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(js.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(!css.body.contains("url(") && !css.body.contains("@import"));
    for risky in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write", "localStorage"] {
        assert!(!js.body.contains(risky), "{risky}");
    }
}
