//! What the engine measures, one function for each event that changes a metric. `catalog` has the names.

mod catalog;

use std::time::Instant;

use chunk_sync_model::merge::{self, Outcome, Strategy};
use chunk_sync_model::{Event, EventType, Target, Time, Writer};
use metrics::{Counter, Histogram, counter, gauge, histogram};

use crate::ports::{AbsenceCounts, BusCondition, FaultClass, Gap, WaitReason, WaitingCount};
use crate::verify::Report;

pub use self::catalog::{Kind, Metric};

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
    histogram!(Metric::DurationSeconds.name(), "operation" => operation.as_str())
}

fn events(source: &'static str, target: Target, kind: EventType) -> Counter {
    let labels = [("source", source), ("target", target.as_str()), ("type", kind.as_str())];
    counter!(Metric::Events.name(), &labels)
}

fn errors(source: &'static str, target: Target, class: FaultClass) -> Counter {
    let labels = [("source", source), ("target", target.as_str()), ("error_type", class.as_str())];
    counter!(Metric::Errors.name(), &labels)
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
    gauge!(Metric::LagSeconds.name(), "source" => source, "target" => target.as_str()).set(seconds);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn queue(waiting: u64, dead: u64) {
    gauge!(Metric::QueueSize.name()).set(waiting as f64);
    gauge!(Metric::DeadLetters.name()).set(dead as f64);
}

/// Reports the events that are set aside.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn waiting(counts: &[WaitingCount], now: Time) {
    for reason in WaitReason::ALL {
        let events = counts.iter().find(|count| count.reason == reason).map_or(0, |count| count.events);
        gauge!(Metric::WaitingEvents.name(), "reason" => reason.as_str()).set(events as f64);
    }
    let oldest = counts.iter().map(|count| count.since).min();
    gauge!(Metric::WaitingSeconds.name()).set(oldest.map_or(0.0, |since| now.seconds_since(since).max(0.0)));
}

/// Reports whether this process holds the lease.
pub(crate) fn active(active: bool) {
    gauge!(Metric::Active.name()).set(f64::from(u8::from(active)));
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn pending_writes(target: Target, count: u64) {
    gauge!(Metric::Outbox.name(), "target" => target.as_str()).set(count as f64);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn wal_bytes(bytes: u64) {
    gauge!(Metric::WalBytes.name()).set(bytes as f64);
}

/// Reports the result of a verification of all chunks.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn verified(report: &Report, at: Time) {
    gauge!(Metric::ConsistencyRatio.name(), "target" => "all").set(report.consistency / 100.0);
    for (target, store) in &report.stores {
        gauge!(Metric::ConsistencyRatio.name(), "target" => target.as_str()).set(store.ratio(report.chunks));
        for (kind, found) in store.kinds() {
            let labels = [("target", target.as_str()), ("kind", kind.as_str())];
            counter!(Metric::Differences.name(), &labels).increment(found);
        }
    }
    gauge!(Metric::VerifiedTimestampSeconds.name()).set(at.seconds_since(Time::from_micros(0)));
    gauge!(Metric::VerifySeconds.name()).set(report.seconds);
    gauge!(Metric::StaleEmbeddings.name()).set(report.stale_embeddings as f64);
}

pub(crate) fn repaired(chunks: u64) {
    counter!(Metric::Repaired.name()).increment(chunks);
}

/// Reports the chunks without a row, and whether the table is the one on record.
pub(crate) fn absent(counts: &AbsenceCounts, held: u64, suspect: bool) {
    gauge!(Metric::AbsentRows.name(), "state" => "hidden").set(counts.hidden as f64);
    gauge!(Metric::AbsentRows.name(), "state" => "candidate").set(counts.candidates as f64);
    gauge!(Metric::DeletionsHeld.name()).set(held as f64);
    gauge!(Metric::TableSuspect.name()).set(if suspect { 1.0 } else { 0.0 });
}

/// Counts a direct write into the store that `writer` stands for.
pub(crate) fn direct(writer: Writer) {
    counter!(Metric::DirectWrites.name(), "store" => writer.as_str()).increment(1);
}

pub(crate) fn conflict(kind: merge::Kind, strategy: Strategy, outcome: Outcome) {
    let labels = [
        ("type", kind.as_str().to_owned()),
        ("strategy", strategy.to_string()),
        ("outcome", outcome.as_str().to_owned()),
    ];
    counter!(Metric::Conflicts.name(), &labels).increment(1);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn automatic(conflicts: u64, left_open: u64) {
    let share = if conflicts == 0 { 1.0 } else { 1.0 - left_open as f64 / conflicts as f64 };
    gauge!(Metric::ConflictsAutomaticRatio.name()).set(share);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn open_conflicts(count: u64) {
    gauge!(Metric::ConflictsOpen.name()).set(count as f64);
}

pub(crate) fn cut_conflicts(count: u64) {
    counter!(Metric::ConflictsCut.name()).increment(count);
}

pub(crate) fn completed(event: &Event, now: Time) {
    #[allow(clippy::cast_precision_loss, reason = "a duration")]
    let age = now.micros().saturating_sub(event.timestamp.micros()).max(0) as f64 / 1e6;
    histogram!(Metric::SettledSeconds.name(), "source" => source(event)).record(age);
}

pub(crate) fn visible(target: Target, seconds: f64) {
    histogram!(Metric::VisibleSeconds.name(), "target" => target.as_str()).record(seconds);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn capture_lag(bytes: Option<u64>) {
    gauge!(Metric::CaptureLagBytes.name()).set(bytes.map_or(f64::NAN, |bytes| bytes as f64));
}

/// Reports whether this process reads the log, and since when.
pub(crate) fn capturing(runs: bool, since: Time) {
    gauge!(Metric::CaptureRunning.name()).set(f64::from(u8::from(runs)));
    gauge!(Metric::CaptureSinceTimestampSeconds.name()).set(since.seconds_since(Time::from_micros(0)));
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn bus(condition: &BusCondition) {
    counter!(Metric::BusLost.name()).absolute(condition.lost);
    gauge!(Metric::BusWarnings.name()).set(condition.warnings.len() as f64);
}

pub(crate) fn commit_time_replaced() {
    counter!(Metric::CommitTimesReplaced.name()).increment(1);
}

pub(crate) fn gap(gap: Gap) {
    counter!(Metric::CaptureGaps.name(), "reason" => gap.as_str()).increment(1);
}

pub(crate) fn dead(class: FaultClass) {
    counter!(Metric::DeadLettersMoved.name(), "error_type" => class.as_str()).increment(1);
}

pub(crate) fn absent_target(target: Target) {
    counter!(Metric::AbsentTargets.name(), "target" => target.as_str()).increment(1);
}

pub(crate) fn filling(target: Target, is_filling: bool) {
    gauge!(Metric::Filling.name(), "target" => target.as_str()).set(f64::from(u8::from(is_filling)));
}

pub(crate) fn late_writes(target: Target, chunks: u64) {
    counter!(Metric::LateWrites.name(), "target" => target.as_str()).increment(chunks);
}

pub(crate) fn clock_differs(differs: bool) {
    gauge!(Metric::ClockDiffers.name()).set(f64::from(u8::from(differs)));
}

pub(crate) fn repeated() {
    counter!(Metric::Repeated.name()).increment(1);
}

/// The `source` label of an event. Direct writes into the projections and settled conflicts count for the system that
/// the chunk comes from.
pub(crate) fn source(event: &Event) -> &'static str {
    match event.writer {
        Writer::Postgres => "postgres",
        _ => event.source.as_str(),
    }
}
