//! The HTTP server: what is asked for under which path, and who may ask. Each answer is made in a file of its own below.
//!
//! From the outside in: `connections` bounds how many there are and how slow they may be; every answer gets the headers of
//! `page::secured`; `hosts` refuses what was sent to another name; `auth` asks for the token where one is configured.

mod auth;
mod connections;
mod events;
mod hosts;
mod live;
mod page;
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
use chunk_sync_engine::{Ports, Publisher, Service};
use chunk_sync_model::Time;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::config::Http;
use crate::status::LastVerification;
use refusal::Refusal;

/// How often what the histograms were told is counted, whether or not anybody asks for it.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the server shows and serves.
pub struct App {
    /// `embedded` or `servers`, for people.
    pub mode: &'static str,
    /// Whose condition is shown.
    pub service: Arc<Service>,
    /// Asked for the queue and the debts.
    pub ports: Ports,
    /// What is posted goes here, and what is published through it or a clone of it is told to listeners.
    pub publisher: Publisher,
    /// Where the metrics are gathered.
    pub metrics: PrometheusHandle,
    /// Token and names.
    pub http: Http,
    /// Where verifications are noted.
    pub verified: LastVerification,
}

/// What every request can reach.
struct Context {
    app: App,
    started: Time,
    /// True once the server is to end.
    ending: watch::Receiver<bool>,
    /// Bodies that may be held in memory at once.
    bodies: Semaphore,
    /// Listeners that there may be at once.
    listeners: Arc<Semaphore>,
}

/// Serves until `shutdown`; then takes no more, ends the streams of listeners, and finishes what has been asked for. Holds
/// `app` until it returns.
///
/// # Errors
/// Where nothing can be accepted on `listener`.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (end, ending) = watch::channel(false);
    let metrics = app.metrics.clone();
    let context = Context {
        app,
        started: jiff::Timestamp::now().into(),
        ending,
        bodies: Semaphore::new(events::AT_ONCE),
        listeners: Arc::new(Semaphore::new(live::AT_ONCE)),
    };
    let shutdown = async move {
        shutdown.await;
        end.send_replace(true);
    };
    tokio::select! {
        result = connections::serve(listener, router(context), shutdown) => result,
        () = keep_up(&metrics) => Ok(()),
    }
}

fn router(context: Context) -> Router {
    let context = Arc::new(context);
    let guarded = Router::new()
        .route("/v1/status", get(state::whole))
        .route("/v1/events/live", get(live::listen))
        .route_layer(from_fn_with_state(Arc::clone(&context), auth::where_configured));
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/healthz", get(state::health))
        .route("/readyz", get(state::readiness))
        .route("/metrics", get(state::metrics))
        .route("/v1/events", post(events::publish))
        .merge(guarded)
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&context), hosts::check))
        .layer(map_response(page::secured))
        .with_state(context)
}

async fn nothing_there(uri: Uri) -> Refusal {
    Refusal::NothingThere(uri.path().to_owned())
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
