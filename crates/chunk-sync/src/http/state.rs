//! Health, readiness, metrics, and the status that the page displays.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Context;
use super::json::Json;
use crate::status::capture::Capture;
use crate::status::{self, Observed, Status};

/// `GET /healthz`: 200 unless the worker has ended with a fault, which is the only condition that a restart repairs. The
/// fault only to a client that may see details.
pub(super) async fn health(State(context): State<Arc<Context>>, request: Request) -> (StatusCode, Json<Value>) {
    match context.app.service.health().ended {
        Some(Err(fault)) => {
            let mut body = json!({"healthy": false});
            if context.shows_details(&request) {
                body["error"] = format!("the worker has stopped: {fault}").into();
            }
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
        Some(Ok(())) | None => (StatusCode::OK, Json(json!({"healthy": true}))),
    }
}

/// `GET /readyz`: 200 while the service processes events, no new store is being filled and no deletion is held, else 503. A
/// failing projection is reported but leaves the service ready: the outbox keeps the writes that the projection misses, and taking the service out
/// of rotation would not help. The reasons only to a client that may see details.
pub(super) async fn readiness(State(context): State<Arc<Context>>, request: Request) -> (StatusCode, Json<Value>) {
    let (health, filling) = (context.app.service.health(), context.app.filling.get());
    let guarded = context.app.guard.get();
    let capture = context.app.capture.as_ref().map(Capture::of);
    let down = capture.as_ref().and_then(|capture| capture.is_down(jiff::Timestamp::now().into()));
    let ready = status::is_ready(&health, &filling, &guarded) && down.is_none();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({"ready": ready});
    if context.shows_details(&request) {
        let mut failing = status::stores(&health, None);
        failing.retain(|store| store.failing.is_some());
        let waiting_for = status::waiting_for(&health, &filling, &guarded).into_iter().chain(down);
        body["waiting_for"] = json!(waiting_for.collect::<Vec<_>>());
        body["failing"] = json!(failing);
        body["capture"] = json!(capture);
    }
    (status, Json(body))
}

/// `GET /metrics`: every metric in the Prometheus text format.
pub(super) async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], context.app.metrics.render())
}

/// `GET /v1/status`: the whole status.
pub(super) async fn whole(State(context): State<Arc<Context>>) -> Json<Status> {
    let app = &context.app;
    let observed = Observed {
        roles: &app.roles,
        installed: &app.installed,
        filling: &app.filling,
        guard: &app.guard,
        file: app.file.as_ref(),
        service: &app.service,
        ports: &app.ports,
        verified: &app.verified,
        capture: app.capture.as_ref(),
    };
    Json(Status::gather(observed, context.started).await)
}
