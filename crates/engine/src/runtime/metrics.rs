//! The names of all metrics and what they count. No other module of the engine contains a metric name.

use std::time::Instant;

use chunk_sync_model::merge::{self, Outcome, Strategy};
use chunk_sync_model::{Event, EventType, Target, Time, Writer};
use metrics::{Counter, Histogram, counter, gauge, histogram};

use crate::ports::{AbsenceCounts, BusCondition, FaultClass, Gap, WaitReason, WaitingCount};
use crate::verify::Report;

/// The name and description of every metric, for the metrics endpoint.
pub const DESCRIPTIONS: &[(Kind, &str, &str)] = &[
    (Kind::Counter, "sync_events_total", "Events that a store holds durably, once per event and store"),
    (Kind::Counter, "sync_errors_total", "Failed attempts, by store and class of fault"),
    (Kind::Histogram, "sync_duration_seconds", "How long each step takes a batch"),
    (Kind::Gauge, "sync_lag_seconds", "Age of the oldest event that a store does not hold yet"),
    (Kind::Gauge, "sync_queue_size", "Entries on the bus, unread and pending"),
    (Kind::Counter, "chunk_sync_conflicts_total", "Parts that two writers changed, by kind, strategy and outcome"),
    (Kind::Gauge, "chunk_sync_conflicts_open", "Conflicts on record that wait for the operator"),
    (Kind::Gauge, "chunk_sync_conflicts_automatic_ratio", "Share of conflicts since the start decided automatically"),
    (Kind::Counter, "chunk_sync_dead_letters_total", "Events moved to the dead letters, by class of fault"),
    (Kind::Counter, "chunk_sync_repeated_total", "Events that came late or once more and changed nothing"),
    (
        Kind::Counter,
        "chunk_sync_absent_targets_total",
        "Targets of events that were dropped because the installation has no such store",
    ),
    (
        Kind::Gauge,
        "chunk_sync_clock_differs",
        "1 while the clocks of process and bus differ too much and merging waits",
    ),
    (Kind::Gauge, "chunk_sync_filling", "1 while a new store is being filled"),
    (Kind::Histogram, "chunk_sync_settled_seconds", "Age of an event, by its own time, when every store held it"),
    (
        Kind::Gauge,
        "chunk_sync_capture_lag_bytes",
        "How much of its log PostgreSQL keeps for the slot; NaN if PostgreSQL does not answer",
    ),
    (Kind::Gauge, "chunk_sync_capture_running", "1 while this process reads PostgreSQL's log, else 0"),
    (
        Kind::Gauge,
        "chunk_sync_capture_since_timestamp_seconds",
        "Since when this process has been reading PostgreSQL's log, or not reading it, in seconds since 1970",
    ),
    (Kind::Counter, "chunk_sync_bus_lost_total", "Entries that the bus lost before they were finished"),
    (Kind::Gauge, "chunk_sync_bus_warnings", "Conditions of the bus that the operator must change; status names them"),
    (Kind::Counter, "chunk_sync_capture_gaps_total", "Stretches of changes that capture may have missed, by reason"),
    (
        Kind::Counter,
        "chunk_sync_commit_times_replaced_total",
        "Captured transactions whose commit time lay too far ahead of the clock",
    ),
    (Kind::Gauge, "chunk_sync_active", "1 while this process holds the lease, 0 while it stands by"),
    (Kind::Gauge, "chunk_sync_outbox", "Chunks with a pending write in the outbox, by store"),
    (Kind::Gauge, "chunk_sync_dead_letters", "Dead letters that wait for the operator"),
    (Kind::Gauge, "chunk_sync_waiting_events", "Events that are set aside until they can be merged, by reason"),
    (Kind::Gauge, "chunk_sync_waiting_seconds", "Age of the oldest event that is set aside"),
    (Kind::Gauge, "chunk_sync_wal_bytes", "Size of the write-ahead log on disk"),
    (Kind::Gauge, "chunk_sync_consistency_ratio", "Share of chunks that a store, or all of them, hold correctly"),
    (Kind::Gauge, "chunk_sync_verified_timestamp_seconds", "When all chunks were last compared, in seconds since 1970"),
    (Kind::Gauge, "chunk_sync_verify_seconds", "How long it took to compare all chunks"),
    (
        Kind::Gauge,
        "chunk_sync_stale_embeddings",
        "Chunks with an embedding of an older content, by the last comparison",
    ),
    (Kind::Counter, "chunk_sync_differences_total", "Chunks found to differ, by store and kind"),
    (Kind::Gauge, "chunk_sync_absent_rows", "Living chunks without a row, by state: hidden or candidate"),
    (Kind::Gauge, "chunk_sync_deletions_held", "Chunks without a row that are not deleted until the operator decides"),
    (Kind::Gauge, "chunk_sync_table_suspect", "1 while the table is not the one on record"),
    (Kind::Counter, "chunk_sync_repaired_total", "Chunks found to differ and repaired"),
];

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

/// A step on the path of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From PostgreSQL's log to the bus.
    Capture,
    /// Into the write-ahead log.
    Wal,
    /// Merging, without the store's part of the transaction.
    Merge,
    /// Into one store; of the system of record, its whole transaction.
    Apply(Target),
    /// From durable everywhere to acknowledged.
    Settle,
}

impl Operation {
    /// Every step.
    const ALL: [Self; 7] = [
        Self::Capture,
        Self::Wal,
        Self::Merge,
        Self::Apply(Target::Postgres),
        Self::Apply(Target::Qdrant),
        Self::Apply(Target::Neo4j),
        Self::Settle,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Wal => "wal",
            Self::Merge => "merge",
            Self::Apply(Target::Postgres) => "apply_postgres",
            Self::Apply(Target::Qdrant) => "apply_qdrant",
            Self::Apply(Target::Neo4j) => "apply_neo4j",
            Self::Settle => "settle",
        }
    }
}

/// The `source` labels: all systems that can have made a change.
const SOURCES: [&str; 4] = ["claude", "cognee", "hybrid", "postgres"];

/// Creates every series of the five families at zero, for the stores that the installation has: a rate is correct only
/// if the series existed before its first event, and an absent series looks the same as a service that does not run.
pub fn show_all(targets: &[Target]) {
    const TYPES: [EventType; 3] = [EventType::Create, EventType::Update, EventType::Delete];
    for (source, target) in SOURCES.into_iter().flat_map(|source| targets.iter().map(move |target| (source, *target))) {
        for kind in TYPES {
            events(source, target, kind).increment(0);
        }
        for class in FaultClass::ALL {
            errors(source, target, class).increment(0);
        }
        lag(source, target, 0.0);
    }
    let is_absent = |operation: Operation| matches!(operation, Operation::Apply(target) if !targets.contains(&target));
    for operation in Operation::ALL.into_iter().filter(|operation| !is_absent(*operation)) {
        // Registered without a value: nothing has been timed yet.
        let _ = duration(operation);
    }
    queue(0, 0);
    automatic(0, 0);
}

fn duration(operation: Operation) -> Histogram {
    histogram!("sync_duration_seconds", "operation" => operation.as_str())
}

fn events(source: &'static str, target: Target, kind: EventType) -> Counter {
    let labels = [("source", source), ("target", target.as_str()), ("type", kind.as_str())];
    counter!("sync_events_total", &labels)
}

fn errors(source: &'static str, target: Target, class: FaultClass) -> Counter {
    let labels = [("source", source), ("target", target.as_str()), ("error_type", class.as_str())];
    counter!("sync_errors_total", &labels)
}

pub(crate) fn took(operation: Operation, since: Instant) {
    duration(operation).record(since.elapsed().as_secs_f64());
}

pub(crate) fn durable(event: &Event, target: Target) {
    events(source(event), target, event.kind).increment(1);
}

pub(crate) fn failed(source: &'static str, target: Target, class: FaultClass) {
    errors(source, target, class).increment(1);
}

pub(crate) fn lag(source: &'static str, target: Target, seconds: f64) {
    gauge!("sync_lag_seconds", "source" => source, "target" => target.as_str()).set(seconds);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn queue(waiting: u64, dead: u64) {
    gauge!("sync_queue_size").set(waiting as f64);
    gauge!("chunk_sync_dead_letters").set(dead as f64);
}

/// Reports the events that are set aside.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn waiting(counts: &[WaitingCount], now: Time) {
    for reason in WaitReason::ALL {
        let events = counts.iter().find(|count| count.reason == reason).map_or(0, |count| count.events);
        gauge!("chunk_sync_waiting_events", "reason" => reason.as_str()).set(events as f64);
    }
    let oldest = counts.iter().map(|count| count.since).min();
    gauge!("chunk_sync_waiting_seconds").set(oldest.map_or(0.0, |since| now.seconds_since(since).max(0.0)));
}

/// Reports whether this process holds the lease.
pub(crate) fn active(active: bool) {
    gauge!("chunk_sync_active").set(f64::from(u8::from(active)));
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn pending_writes(target: Target, count: u64) {
    gauge!("chunk_sync_outbox", "target" => target.as_str()).set(count as f64);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn wal_bytes(bytes: u64) {
    gauge!("chunk_sync_wal_bytes").set(bytes as f64);
}

/// Reports the result of a verification of all chunks.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn verified(report: &Report, at: Time) {
    gauge!("chunk_sync_consistency_ratio", "target" => "all").set(report.consistency / 100.0);
    for (target, store) in &report.stores {
        gauge!("chunk_sync_consistency_ratio", "target" => target.as_str()).set(store.ratio(report.chunks));
        for (kind, found) in store.kinds() {
            let labels = [("target", target.as_str()), ("kind", kind.as_str())];
            counter!("chunk_sync_differences_total", &labels).increment(found);
        }
    }
    gauge!("chunk_sync_verified_timestamp_seconds").set(at.seconds_since(Time::from_micros(0)));
    gauge!("chunk_sync_verify_seconds").set(report.seconds);
    gauge!("chunk_sync_stale_embeddings").set(report.stale_embeddings as f64);
}

pub(crate) fn repaired(chunks: u64) {
    counter!("chunk_sync_repaired_total").increment(chunks);
}

/// Counts a direct write into the store that `writer` stands for.
pub(crate) fn absent(counts: &AbsenceCounts, held: u64, suspect: bool) {
    gauge!("chunk_sync_absent_rows", "state" => "hidden").set(counts.hidden as f64);
    gauge!("chunk_sync_absent_rows", "state" => "candidate").set(counts.candidates as f64);
    gauge!("chunk_sync_deletions_held").set(held as f64);
    gauge!("chunk_sync_table_suspect").set(if suspect { 1.0 } else { 0.0 });
}

pub(crate) fn direct(writer: Writer) {
    counter!("chunk_sync_direct_writes_total", "store" => writer.as_str()).increment(1);
}

pub(crate) fn conflict(kind: merge::Kind, strategy: Strategy, outcome: Outcome) {
    let labels = [
        ("type", kind.as_str().to_owned()),
        ("strategy", strategy.to_string()),
        ("outcome", outcome.as_str().to_owned()),
    ];
    counter!("chunk_sync_conflicts_total", &labels).increment(1);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn automatic(conflicts: u64, left_open: u64) {
    let share = if conflicts == 0 { 1.0 } else { 1.0 - left_open as f64 / conflicts as f64 };
    gauge!("chunk_sync_conflicts_automatic_ratio").set(share);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn open_conflicts(count: u64) {
    gauge!("chunk_sync_conflicts_open").set(count as f64);
}

pub(crate) fn settled(event: &Event, now: Time) {
    #[allow(clippy::cast_precision_loss, reason = "a duration")]
    let age = now.micros().saturating_sub(event.timestamp.micros()).max(0) as f64 / 1e6;
    histogram!("chunk_sync_settled_seconds", "source" => source(event)).record(age);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn capture_lag(bytes: Option<u64>) {
    gauge!("chunk_sync_capture_lag_bytes").set(bytes.map_or(f64::NAN, |bytes| bytes as f64));
}

/// Reports whether this process reads the log, and since when.
pub(crate) fn capturing(runs: bool, since: Time) {
    gauge!("chunk_sync_capture_running").set(f64::from(u8::from(runs)));
    gauge!("chunk_sync_capture_since_timestamp_seconds").set(since.seconds_since(Time::from_micros(0)));
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn bus(condition: &BusCondition) {
    counter!("chunk_sync_bus_lost_total").absolute(condition.lost);
    gauge!("chunk_sync_bus_warnings").set(condition.warnings.len() as f64);
}

pub(crate) fn commit_time_replaced() {
    counter!("chunk_sync_commit_times_replaced_total").increment(1);
}

pub(crate) fn gap(gap: Gap) {
    counter!("chunk_sync_capture_gaps_total", "reason" => gap.as_str()).increment(1);
}

pub(crate) fn dead(class: FaultClass) {
    counter!("chunk_sync_dead_letters_total", "error_type" => class.as_str()).increment(1);
}

pub(crate) fn absent_target(target: Target) {
    counter!("chunk_sync_absent_targets_total", "target" => target.as_str()).increment(1);
}

pub(crate) fn filling(target: Target, is_filling: bool) {
    gauge!("chunk_sync_filling", "target" => target.as_str()).set(f64::from(u8::from(is_filling)));
}

pub(crate) fn clock_differs(differs: bool) {
    gauge!("chunk_sync_clock_differs").set(f64::from(u8::from(differs)));
}

pub(crate) fn repeated() {
    counter!("chunk_sync_repeated_total").increment(1);
}

/// The `source` label of an event. Direct writes into the projections and settled conflicts count for the system that
/// the chunk comes from.
pub(crate) fn source(event: &Event) -> &'static str {
    match event.writer {
        Writer::Postgres => "postgres",
        _ => event.source.as_str(),
    }
}
