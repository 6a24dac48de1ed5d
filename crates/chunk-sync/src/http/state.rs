//! How the service is doing, for machines: health, readiness, metrics, and the status that the page draws.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Context;
use crate::status::{self, Status};

/// Alive as long as the worker has not ended with a fault: a restart helps there, and nowhere else.
pub(super) async fn health(State(context): State<Arc<Context>>) -> (StatusCode, Json<Value>) {
    match context.app.service.health().ended {
        Some(Err(fault)) => {
            let error = format!("the worker had to stop: {fault}");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"healthy": false, "error": error})))
        }
        Some(Ok(())) | None => (StatusCode::OK, Json(json!({"healthy": true}))),
    }
}

/// Ready while events are carried. A projection that fails is said and no more: what it misses is owed to it, and taking
/// the service out of use would help nobody.
pub(super) async fn readiness(State(context): State<Arc<Context>>) -> (StatusCode, Json<Value>) {
    let health = context.app.service.health();
    let mut failing = status::stores(&health, None);
    failing.retain(|store| store.failing.is_some());
    let ready = health.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "waiting_for": status::waiting_for(&health), "failing": failing})))
}

/// Every metric as Prometheus reads it.
pub(super) async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], context.app.metrics.render())
}

/// All that is known.
pub(super) async fn whole(State(context): State<Arc<Context>>) -> Json<Status> {
    let app = &context.app;
    Json(Status::gather(app.mode, context.started, &app.service, &app.ports, &app.verified).await)
}
