//! Health, readiness, metrics, and the status that the page displays.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Context;
use crate::status::{self, Observed, Status};

/// `GET /healthz`: 200 unless the worker has ended with a fault, which is the only condition that a restart repairs.
pub(super) async fn health(State(context): State<Arc<Context>>) -> (StatusCode, Json<Value>) {
    match context.app.service.health().ended {
        Some(Err(fault)) => {
            let error = format!("the worker has stopped: {fault}");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"healthy": false, "error": error})))
        }
        Some(Ok(())) | None => (StatusCode::OK, Json(json!({"healthy": true}))),
    }
}

/// `GET /readyz`: 200 while the service processes events and no new store is being filled, else 503. A failing projection is reported but leaves the
/// service ready: the outbox keeps the writes that the projection misses, and taking the service out of rotation would
/// not help.
pub(super) async fn readiness(State(context): State<Arc<Context>>) -> (StatusCode, Json<Value>) {
    let (health, filling) = (context.app.service.health(), context.app.filling.get());
    let mut failing = status::stores(&health, None);
    failing.retain(|store| store.failing.is_some());
    let ready = status::is_ready(&health, &filling);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "waiting_for": status::waiting_for(&health, &filling), "failing": failing})))
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
        file: app.file.as_ref(),
        service: &app.service,
        ports: &app.ports,
        verified: &app.verified,
    };
    Json(Status::gather(observed, context.started).await)
}
