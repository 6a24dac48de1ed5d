//! The HTTP server: routes and access control. The submodules contain the handlers.
//!
//! Layers, from the outside in: `connections` limits the number and the slowness of connections; `page::secured` adds
//! security headers to every response; `hosts` refuses requests for another host name; `rates` those that come too often;
//! `auth` requires the token if one is configured.

mod abridge;
mod auth;
mod chunks;
mod connections;
mod decisions;
mod events;
mod history;
mod hosts;
mod json;
mod live;
mod openapi;
mod page;
mod query;
mod rates;
mod refusal;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use chunk_sync_connectors::embedded::EmbeddedFile;
use chunk_sync_engine::absence::GuardState;
use chunk_sync_engine::ports::Installed;
use chunk_sync_engine::{CaptureMonitor, FillState, Ports, Publisher, Service};
use chunk_sync_model::Time;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::config::Http;
use crate::status::LastVerification;
use refusal::Refusal;

/// How often recorded histogram samples are aggregated. Without this, they would accumulate until the next scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// The dependencies of the server.
pub struct App {
    /// Where each role is kept, for display.
    pub roles: String,
    /// The recorded set of stores and the id of the installation.
    pub installed: Installed,
    /// The stores that are being filled.
    pub filling: FillState,
    /// The embedded file, if rows and records are in one.
    pub file: Option<EmbeddedFile>,
    /// The service whose health is reported.
    pub service: Arc<Service>,
    /// The bus and the system of record, for the depths of queue and outbox.
    pub ports: Ports,
    /// Publishes posted events. Listeners receive every event published through it or a clone of it.
    pub publisher: Publisher,
    /// The metrics to render.
    pub metrics: PrometheusHandle,
    /// Address, token and accepted host names.
    pub http: Http,
    /// The absent rows, and whether the table is the one on record.
    pub guard: GuardState,
    /// The result of the last verification.
    pub verified: LastVerification,
    /// Capture, unless the rows are embedded.
    pub capture: Option<CaptureMonitor>,
}

/// The state shared by all requests.
struct Context {
    app: App,
    started: Time,
    /// True once the shutdown has begun.
    ending: watch::Receiver<bool>,
    /// Permits for request bodies in memory.
    bodies: Semaphore,
    /// Permits for event listeners.
    listeners: Arc<Semaphore>,
    rates: rates::Rates,
    history: history::History,
}

/// Serves until `shutdown` completes. Then accepts no more connections, ends the listeners' streams, and finishes the
/// requests in progress. Holds `app` until it returns.
///
/// # Errors
/// The system's error if `listener` has no local address, which means that it cannot accept connections.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (end, ending) = watch::channel(false);
    let metrics = app.metrics.clone();
    let context = Context {
        rates: rates::Rates::new(app.http.requests_per_second),
        app,
        started: jiff::Timestamp::now().into(),
        ending,
        bodies: Semaphore::new(events::AT_ONCE),
        listeners: Arc::new(Semaphore::new(live::AT_ONCE)),
        history: history::History::default(),
    };
    let context = Arc::new(context);
    let shutdown = async move {
        shutdown.await;
        end.send_replace(true);
    };
    tokio::select! {
        result = connections::serve(listener, router(Arc::clone(&context)), shutdown) => result,
        () = keep_up(&metrics) => Ok(()),
        () = history::History::keep(&context) => Ok(()),
    }
}

fn router(context: Arc<Context>) -> Router {
    let guarded = Router::new()
        .route("/v1/status", get(state::whole))
        .route("/v1/history", get(history::show))
        .route("/v1/chunks/{id}", get(chunks::show))
        .route("/v1/conflicts", get(decisions::conflicts))
        .route("/v1/dead", get(decisions::dead_letters))
        .route("/v1/dead/{id}", get(decisions::dead_letter))
        .route("/v1/events/live", get(live::listen))
        .route_layer(from_fn_with_state(Arc::clone(&context), auth::where_configured));
    let changing = Router::new()
        .route("/v1/dead/{id}/retry", post(decisions::retry))
        .route("/v1/dead/{id}/drop", post(decisions::drop_letter))
        .route_layer(from_fn_with_state(Arc::clone(&context), auth::always));
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::page))
        .route("/charts.js", get(page::charts))
        .route("/records.js", get(page::records))
        .route("/state.js", get(page::state))
        .route("/util.js", get(page::util))
        .route("/openapi.json", get(openapi::show))
        .route("/healthz", get(state::health))
        .route("/readyz", get(state::readiness))
        .route("/metrics", get(state::metrics))
        .route("/v1/events", post(events::publish))
        .merge(guarded)
        .merge(changing)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&context), rates::limit))
        .layer(from_fn_with_state(Arc::clone(&context), hosts::check))
        .layer(map_response(page::secured))
        .with_state(context)
}

async fn not_found(uri: Uri) -> Refusal {
    Refusal::NotFound(uri.path().to_owned())
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::WrongMethod(method, uri.path().to_owned())
}

async fn keep_up(metrics: &PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
