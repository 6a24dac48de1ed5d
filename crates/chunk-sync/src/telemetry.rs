//! Installs the metrics recorder and the log subscriber of the process. The engine defines the metrics.

use std::fmt::Debug;
use std::io::{IsTerminal, Write, stderr};
use std::sync::OnceLock;

use chunk_sync_engine::metrics::{Kind, Metric};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogFormat};
use crate::printable::{printable, printable_json};

/// How the names of this project's modules begin.
const OURS: &str = "chunk_sync";

/// Upper bounds of the histogram buckets, in seconds. A merge takes a fraction of a millisecond; a batch waits for seconds
/// while a store is down.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Installs the metrics recorder of this process and returns the handle that renders it. Later calls return the same
/// handle.
///
/// The caller must call `run_upkeep` on the handle regularly: otherwise histogram samples accumulate until the next render.
#[must_use]
pub fn install_metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    // Fails only for an empty list of buckets.
    let recorder = PrometheusBuilder::new().set_buckets(BUCKETS).unwrap_or_default().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed in this process; /metrics stays empty");
    }
    for metric in Metric::ALL {
        match metric.kind() {
            Kind::Counter => describe_counter!(metric.name(), metric.help()),
            Kind::Gauge => describe_gauge!(metric.name(), metric.help()),
            Kind::Histogram => describe_histogram!(metric.name(), metric.help()),
        }
    }
    handle
}

/// Writes log lines to standard error, in the configured format and with the configured filter; in colour if standard
/// error is a terminal. Only the first call has an effect.
///
/// Libraries log at `info` and above only, whatever the filter: below it the clients of the stores log statements with
/// their parameters, which are texts, vectors and credentials.
pub fn init_logs(log: &Log) {
    // Cannot fail: `config` validated the filter with the same parser.
    let filter: Targets = log.filter.parse().unwrap_or_default();
    let filter = filter.and(Targets::new().with_default(LevelFilter::INFO).with_target(OURS, LevelFilter::TRACE));
    let layer = fmt::layer().with_ansi(stderr().is_terminal());
    let layer = match log.format {
        LogFormat::Text => layer.with_writer(stderr).fmt_fields(debug_fn(field).delimited(" ")).boxed(),
        LogFormat::Json => layer.with_writer(|| PrintableJson(stderr())).json().flatten_event(true).boxed(),
    };
    // A second call fails, and the first subscriber stays installed.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Writes a field of a log line: values come from data and from servers.
fn field(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = printable(&format!("{value:?}"));
    match field.name() {
        "message" => write!(out, "{value}"),
        name => write!(out, "{name}={value}"),
    }
}

/// Writes JSON, of which each call contains whole characters, with printable characters only.
struct PrintableJson<W>(W);

impl<W: Write> Write for PrintableJson<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(printable_json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
