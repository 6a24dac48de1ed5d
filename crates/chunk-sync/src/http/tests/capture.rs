//! Capture in readiness and status.

use std::time::Duration;

use chunk_sync_engine::Clock;
use chunk_sync_engine::ports::Capture as _;
use chunk_sync_testkit::memory::MemoryCapture;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Request};
use super::ports::World;
use super::{Extra, SECRET, Server};

/// A log that another process reads, and a clock that is so many seconds late: what happens now was that long ago.
async fn server(log: &MemoryCapture, late: i64) -> Server {
    let clock = Clock::new(move || Timestamp::now() - SignedDuration::from_secs(late));
    let capture = Some((log.another(), clock));
    let extra = Extra { capture, ..Extra::default() };
    Server::start_with(World::default(), TempDir::new().unwrap(), Some(SECRET), extra).await
}

async fn readiness(server: &Server) -> Answer {
    Request::get("/readyz").token(SECRET).send(server.address).await
}

/// Waits until the service works and capture is in this phase.
async fn until_phase(server: &Server, phase: &str) {
    server.until(chunk_sync_engine::Health::is_ready).await;
    let reached = async {
        while readiness(server).await.json()["capture"]["phase"] != phase {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("not in this phase within 30 s");
}

#[tokio::test]
async fn capture_that_has_been_down_for_long_makes_the_service_unready_with_the_reason() {
    let log = MemoryCapture::default();
    let other = log.open().await.unwrap();
    let server = server(&log, 30).await;
    until_phase(&server, "failed").await;
    let answer = readiness(&server).await;
    assert_eq!((answer.status, &answer.json()["ready"]), (503, &Value::Bool(false)), "{}", answer.body);
    let reasons = answer.json()["waiting_for"].as_array().unwrap().clone();
    let reason = reasons[0].as_str().unwrap();
    assert!(reason.starts_with("capture: not running since ") && reasons.len() == 1, "{}", answer.body);
    assert!(reason.contains("another process reads the log"), "{}", answer.body);
    assert_eq!(server.get("/readyz").await.json(), serde_json::json!({"ready": false}), "details need the token");
    assert_eq!(server.get("/healthz").await.status, 200, "a restart would not help");
    let status = Request::get("/v1/status").token(SECRET).send(server.address).await.json();
    assert_eq!((&status["ready"], &status["waiting_for"][0]), (&Value::Bool(false), &reasons[0]));
    // Now it can read the log.
    drop(other);
    until_phase(&server, "running").await;
    assert_eq!(readiness(&server).await.status, 200);
}

#[tokio::test]
async fn capture_that_has_been_down_for_a_moment_leaves_the_service_ready() {
    let log = MemoryCapture::default();
    let _other = log.open().await.unwrap();
    let server = server(&log, 0).await;
    until_phase(&server, "failed").await;
    let answer = readiness(&server).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["capture"]["running"], false);
}
