//! `GET /v1/history`: how the figures of the last minutes and of the last day developed, from the start of the process on.
//!
//! Every second a task reads the gauges of the process, the same that `/metrics` shows, and counts what came in and what
//! was completed. So every gauge has a history, and a new one needs nothing here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use chunk_sync_engine::Spread;
use chunk_sync_engine::metrics::Metric;
use chunk_sync_model::{Target, Time};
use serde::Serialize;

use super::Context;
use super::json::Json;
use super::query::Query;
use super::refusal::Refusal;
use crate::status::Verification;

/// Samples of the last five minutes, one a second; and of the last day, one a minute.
const RECENT: Window = Window { every: 1, most: 300 };
const DAY: Window = Window { every: 60, most: 1440 };

#[derive(Clone, Copy)]
struct Window {
    /// Seconds between two samples.
    every: u64,
    most: usize,
}

/// The samples of the process.
#[derive(Default)]
pub(super) struct History(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    ticks: u64,
    recent: Samples,
    day: Samples,
}

/// Samples in columns: one element a sample, absent values are null.
#[derive(Clone, Default, Serialize)]
struct Samples {
    at: VecDeque<Time>,
    series: BTreeMap<String, VecDeque<Option<f64>>>,
}

/// The response.
#[derive(Serialize)]
pub(super) struct Answer {
    every_seconds: u64,
    #[serde(flatten)]
    samples: Samples,
    /// Per store.
    lag_seconds: BTreeMap<String, Lag>,
    /// The verifications since the start, oldest first.
    verifications: Vec<Verification>,
}

/// How far a store is behind, in seconds.
#[derive(Serialize)]
struct Lag {
    /// The age of the oldest event that is not complete; 0 if there is none.
    now: f64,
    /// How long the changes of the last five minutes took from their arrival until the store held them; absent if there
    /// was no change.
    #[serde(flatten)]
    visible: Option<Visible>,
}

#[derive(Serialize)]
struct Visible {
    p50: f64,
    p95: f64,
}

/// `GET /v1/history`, with `window=recent` or `window=day`.
pub(super) async fn show(State(context): State<Arc<Context>>, uri: Uri) -> Result<Json<Answer>, Refusal> {
    let mut query = Query::of(&uri)?;
    let window = query.take::<String>("window")?;
    query.end()?;
    let inner = context.history.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (samples, window) = match window.as_deref() {
        None | Some("recent") => (&inner.recent, RECENT),
        Some("day") => (&inner.day, DAY),
        Some(_) => return Err(Refusal::Parameter("window".to_owned(), "must be recent or day".to_owned())),
    };
    Ok(Json(Answer {
        every_seconds: window.every,
        samples: samples.clone(),
        lag_seconds: lags(&inner.recent.lags(), &context.app.service.latencies()),
        verifications: context.app.verified.all(),
    }))
}

impl History {
    /// Takes a sample every second, until it is dropped.
    pub(super) async fn keep(context: &Context) {
        let mut ticks = tokio::time::interval(Duration::from_secs(RECENT.every));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sample = gauges(&context.app.metrics.render());
            let completed = context.app.service.health().done.completed as f64;
            let waiting = sample.get(Metric::QueueSize.name()).copied().unwrap_or_default();
            sample.insert("completed".to_owned(), completed);
            sample.insert("received".to_owned(), completed + waiting);
            context.history.add(jiff::Timestamp::now().into(), &sample);
        }
    }

    fn add(&self, at: Time, sample: &BTreeMap<String, f64>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.recent.add(at, sample, RECENT.most);
        if inner.ticks.is_multiple_of(DAY.every / RECENT.every) {
            inner.day.add(at, sample, DAY.most);
        }
        inner.ticks += 1;
    }
}

impl Samples {
    fn add(&mut self, at: Time, sample: &BTreeMap<String, f64>, most: usize) {
        for name in sample.keys().filter(|name| !self.series.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.series.insert(name, self.at.iter().map(|_| None).collect());
        }
        self.at.push_back(at);
        for (name, values) in &mut self.series {
            values.push_back(sample.get(name).copied());
        }
        if self.at.len() > most {
            self.at.pop_front();
            for values in self.series.values_mut() {
                values.pop_front();
            }
        }
    }

    /// The last lag of each store.
    fn lags(&self) -> BTreeMap<String, f64> {
        let of = |(name, values): (&String, &VecDeque<Option<f64>>)| {
            let target = name.strip_prefix("lag{target=\"")?.strip_suffix("\"}")?;
            Some((target.to_owned(), values.back().copied().flatten().unwrap_or_default()))
        };
        self.series.iter().filter_map(of).collect()
    }
}

fn lags(now: &BTreeMap<String, f64>, visible: &BTreeMap<Target, Spread>) -> BTreeMap<String, Lag> {
    let of = |name: &str| visible.iter().find(|(target, _)| target.as_str() == name).map(|(_, spread)| spread);
    let lag = |(name, now): (&String, &f64)| {
        let visible = of(name).map(|spread| Visible { p50: spread.p50, p95: spread.p95 });
        (name.clone(), Lag { now: *now, visible })
    };
    now.iter().map(lag).collect()
}

/// The gauges in a text of metrics, by name and labels as they are written there. The lag of a store is the greatest of its
/// sources: `lag{target="qdrant"}`.
fn gauges(text: &str) -> BTreeMap<String, f64> {
    let (mut gauges, mut family) = (BTreeMap::<String, f64>::new(), "");
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.strip_suffix(" gauge").unwrap_or_default();
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ').filter(|_| !family.is_empty() && line.starts_with(family))
        else {
            continue;
        };
        let Some(value) = value.parse::<f64>().ok().filter(|value| value.is_finite()) else { continue };
        if family == Metric::LagSeconds.name() {
            let target = series.split("target=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let lag = gauges.entry(format!("lag{{target=\"{target}\"}}")).or_default();
            *lag = lag.max(value);
        } else {
            gauges.insert(series.to_owned(), value);
        }
    }
    gauges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "# HELP sync_lag_seconds Age\n# TYPE sync_lag_seconds gauge\n\
        sync_lag_seconds{source=\"claude\",target=\"qdrant\"} 1.5\nsync_lag_seconds{source=\"cognee\",target=\"qdrant\"} 4\n\
        # TYPE sync_events_total counter\nsync_events_total{source=\"claude\"} 7\n\
        # TYPE chunk_sync_outbox gauge\nchunk_sync_outbox{target=\"neo4j\"} 12\n# TYPE sync_queue_size gauge\nsync_queue_size 3\n";

    #[test]
    fn gauges_are_read_and_counters_are_not() {
        let wanted =
            [("chunk_sync_outbox{target=\"neo4j\"}", 12.0), ("lag{target=\"qdrant\"}", 4.0), ("sync_queue_size", 3.0)];
        assert_eq!(gauges(TEXT), wanted.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn samples_are_bounded_and_a_late_series_is_filled_up() {
        let mut samples = Samples::default();
        let at = |n: i64| Time::from_micros(n * 1_000_000);
        samples.add(at(0), &[("a".to_owned(), 0.0)].into(), 3);
        for n in 1..5_u32 {
            let sample = [("a".to_owned(), f64::from(n)), ("lag{target=\"qdrant\"}".to_owned(), f64::from(n))];
            samples.add(at(n.into()), &sample.into(), 3);
        }
        assert_eq!(samples.at, [at(2), at(3), at(4)]);
        assert_eq!(samples.series["a"], [Some(2.0), Some(3.0), Some(4.0)]);
        assert_eq!(samples.lags()["qdrant"], 4.0);
        let visible = BTreeMap::from([(Target::Qdrant, Spread { p50: 0.01, p95: 0.02 })]);
        let shown = serde_json::to_value(lags(&samples.lags(), &visible)).unwrap();
        assert_eq!(shown["qdrant"], serde_json::json!({"now": 4.0, "p50": 0.01, "p95": 0.02}));
        samples.add(at(5), &[("b".to_owned(), 1.0)].into(), 3);
        assert_eq!(samples.series["b"], [None, None, Some(1.0)]);
        assert_eq!(samples.series["a"], [Some(3.0), Some(4.0), None]);
    }
}
