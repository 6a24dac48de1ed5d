//! How the service is observed: where its metrics are gathered, and how its log for people looks. What is measured is
//! named in the engine.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;

use chunk_sync_engine::metrics::{DESCRIPTIONS, Kind};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat};

/// Upper bounds of the histograms, in seconds: a merge takes a fraction of a millisecond, a store that is down holds a
/// batch for seconds.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Gathers the metrics of this process from now on; the handle shows them. Asked again, it answers the same handle.
///
/// Whoever holds the handle calls `run_upkeep` now and then, or what the histograms are told piles up until it is shown.
#[must_use]
pub fn install_metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    // Only an empty list of buckets is refused.
    let recorder = PrometheusBuilder::new().set_buckets(BUCKETS).unwrap_or_default().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another recorder has the metrics of this process: none are shown");
    }
    for (kind, name, description) in DESCRIPTIONS {
        match kind {
            Kind::Counter => describe_counter!(*name, *description),
            Kind::Gauge => describe_gauge!(*name, *description),
            Kind::Histogram => describe_histogram!(*name, *description),
        }
    }
    handle
}

/// Writes the log for people to standard error, as configured; in colour where a terminal is there to see it. The first
/// call counts.
pub fn init_logs(log: &Log) {
    // The configuration was checked by the same parser.
    let filter: Targets = log.filter.parse().unwrap_or_default();
    let layer = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let layer = match log.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // A second call finds the first one's subscriber in its place, and leaves it there.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
