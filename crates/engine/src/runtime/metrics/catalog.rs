//! Every metric: its name, its type and what it counts. No other module of the engine contains the name of a metric.

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

/// What the service measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `sync_events_total`.
    Events,
    /// `sync_errors_total`.
    Errors,
    /// `sync_duration_seconds`.
    DurationSeconds,
    /// `sync_lag_seconds`.
    LagSeconds,
    /// `sync_queue_size`.
    QueueSize,
    /// `chunk_sync_conflicts_total`.
    Conflicts,
    /// `chunk_sync_conflicts_open`.
    ConflictsOpen,
    /// `chunk_sync_conflicts_automatic_ratio`.
    ConflictsAutomaticRatio,
    /// `chunk_sync_dead_letters_total`.
    DeadLettersMoved,
    /// `chunk_sync_repeated_total`.
    Repeated,
    /// `chunk_sync_absent_targets_total`.
    AbsentTargets,
    /// `chunk_sync_clock_differs`.
    ClockDiffers,
    /// `chunk_sync_filling`.
    Filling,
    /// `chunk_sync_settled_seconds`.
    SettledSeconds,
    /// `chunk_sync_capture_lag_bytes`.
    CaptureLagBytes,
    /// `chunk_sync_capture_running`.
    CaptureRunning,
    /// `chunk_sync_capture_since_timestamp_seconds`.
    CaptureSinceTimestampSeconds,
    /// `chunk_sync_bus_lost_total`.
    BusLost,
    /// `chunk_sync_bus_warnings`.
    BusWarnings,
    /// `chunk_sync_capture_gaps_total`.
    CaptureGaps,
    /// `chunk_sync_commit_times_replaced_total`.
    CommitTimesReplaced,
    /// `chunk_sync_active`.
    Active,
    /// `chunk_sync_outbox`.
    Outbox,
    /// `chunk_sync_dead_letters`.
    DeadLetters,
    /// `chunk_sync_waiting_events`.
    WaitingEvents,
    /// `chunk_sync_waiting_seconds`.
    WaitingSeconds,
    /// `chunk_sync_wal_bytes`.
    WalBytes,
    /// `chunk_sync_consistency_ratio`.
    ConsistencyRatio,
    /// `chunk_sync_verified_timestamp_seconds`.
    VerifiedTimestampSeconds,
    /// `chunk_sync_verify_seconds`.
    VerifySeconds,
    /// `chunk_sync_stale_embeddings`.
    StaleEmbeddings,
    /// `chunk_sync_differences_total`.
    Differences,
    /// `chunk_sync_absent_rows`.
    AbsentRows,
    /// `chunk_sync_deletions_held`.
    DeletionsHeld,
    /// `chunk_sync_table_suspect`.
    TableSuspect,
    /// `chunk_sync_repaired_total`.
    Repaired,
    /// `chunk_sync_direct_writes_total`.
    DirectWrites,
}

impl Metric {
    /// Every metric.
    pub const ALL: &[Self] = &[
        Self::Events,
        Self::Errors,
        Self::DurationSeconds,
        Self::LagSeconds,
        Self::QueueSize,
        Self::Conflicts,
        Self::ConflictsOpen,
        Self::ConflictsAutomaticRatio,
        Self::DeadLettersMoved,
        Self::Repeated,
        Self::AbsentTargets,
        Self::ClockDiffers,
        Self::Filling,
        Self::SettledSeconds,
        Self::CaptureLagBytes,
        Self::CaptureRunning,
        Self::CaptureSinceTimestampSeconds,
        Self::BusLost,
        Self::BusWarnings,
        Self::CaptureGaps,
        Self::CommitTimesReplaced,
        Self::Active,
        Self::Outbox,
        Self::DeadLetters,
        Self::WaitingEvents,
        Self::WaitingSeconds,
        Self::WalBytes,
        Self::ConsistencyRatio,
        Self::VerifiedTimestampSeconds,
        Self::VerifySeconds,
        Self::StaleEmbeddings,
        Self::Differences,
        Self::AbsentRows,
        Self::DeletionsHeld,
        Self::TableSuspect,
        Self::Repaired,
        Self::DirectWrites,
    ];

    /// The name at the metrics endpoint.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.definition().1
    }

    /// The type.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.definition().0
    }

    /// What it counts, for the metrics endpoint.
    #[must_use]
    pub const fn help(self) -> &'static str {
        self.definition().2
    }

    const fn definition(self) -> (Kind, &'static str, &'static str) {
        use Kind::{Counter, Gauge, Histogram};
        match self {
            Self::Events => {
                (Counter, "sync_events_total", "Events that a store holds durably, once per event and store")
            }
            Self::Errors => (Counter, "sync_errors_total", "Failed attempts, by store and class of fault"),
            Self::DurationSeconds => (Histogram, "sync_duration_seconds", "How long each step takes a batch"),
            Self::LagSeconds => (Gauge, "sync_lag_seconds", "Age of the oldest event that a store does not hold yet"),
            Self::QueueSize => (Gauge, "sync_queue_size", "Entries on the bus, unread and pending"),
            Self::Conflicts => {
                (Counter, "chunk_sync_conflicts_total", "Parts that two writers changed, by kind, strategy and outcome")
            }
            Self::ConflictsOpen => {
                (Gauge, "chunk_sync_conflicts_open", "Conflicts on record that wait for the operator")
            }
            Self::ConflictsAutomaticRatio => (
                Gauge,
                "chunk_sync_conflicts_automatic_ratio",
                "Share of conflicts since the start decided automatically",
            ),
            Self::DeadLettersMoved => {
                (Counter, "chunk_sync_dead_letters_total", "Events moved to the dead letters, by class of fault")
            }
            Self::Repeated => {
                (Counter, "chunk_sync_repeated_total", "Events that came late or once more and changed nothing")
            }
            Self::AbsentTargets => (
                Counter,
                "chunk_sync_absent_targets_total",
                "Targets of events that were dropped because the installation has no such store",
            ),
            Self::ClockDiffers => (
                Gauge,
                "chunk_sync_clock_differs",
                "1 while the clocks of process and bus differ too much and merging waits",
            ),
            Self::Filling => (Gauge, "chunk_sync_filling", "1 while a new store is being filled"),
            Self::SettledSeconds => {
                (Histogram, "chunk_sync_settled_seconds", "Age of an event, by its own time, when every store held it")
            }
            Self::CaptureLagBytes => (
                Gauge,
                "chunk_sync_capture_lag_bytes",
                "How much of its log PostgreSQL keeps for the slot; NaN if PostgreSQL does not answer",
            ),
            Self::CaptureRunning => {
                (Gauge, "chunk_sync_capture_running", "1 while this process reads PostgreSQL's log, else 0")
            }
            Self::CaptureSinceTimestampSeconds => (
                Gauge,
                "chunk_sync_capture_since_timestamp_seconds",
                "Since when this process has been reading PostgreSQL's log, or not reading it, in seconds since 1970",
            ),
            Self::BusLost => {
                (Counter, "chunk_sync_bus_lost_total", "Entries that the bus lost before they were finished")
            }
            Self::BusWarnings => (
                Gauge,
                "chunk_sync_bus_warnings",
                "Conditions of the bus that the operator must change; status names them",
            ),
            Self::CaptureGaps => (
                Counter,
                "chunk_sync_capture_gaps_total",
                "Stretches of changes that capture may have missed, by reason",
            ),
            Self::CommitTimesReplaced => (
                Counter,
                "chunk_sync_commit_times_replaced_total",
                "Captured transactions whose commit time lay too far ahead of the clock",
            ),
            Self::Active => (Gauge, "chunk_sync_active", "1 while this process holds the lease, 0 while it stands by"),
            Self::Outbox => (Gauge, "chunk_sync_outbox", "Chunks with a pending write in the outbox, by store"),
            Self::DeadLetters => (Gauge, "chunk_sync_dead_letters", "Dead letters that wait for the operator"),
            Self::WaitingEvents => {
                (Gauge, "chunk_sync_waiting_events", "Events that are set aside until they can be merged, by reason")
            }
            Self::WaitingSeconds => (Gauge, "chunk_sync_waiting_seconds", "Age of the oldest event that is set aside"),
            Self::WalBytes => (Gauge, "chunk_sync_wal_bytes", "Size of the write-ahead log on disk"),
            Self::ConsistencyRatio => {
                (Gauge, "chunk_sync_consistency_ratio", "Share of chunks that a store, or all of them, hold correctly")
            }
            Self::VerifiedTimestampSeconds => (
                Gauge,
                "chunk_sync_verified_timestamp_seconds",
                "When all chunks were last compared, in seconds since 1970",
            ),
            Self::VerifySeconds => (Gauge, "chunk_sync_verify_seconds", "How long it took to compare all chunks"),
            Self::StaleEmbeddings => (
                Gauge,
                "chunk_sync_stale_embeddings",
                "Chunks with an embedding of an older content, by the last comparison",
            ),
            Self::Differences => (Counter, "chunk_sync_differences_total", "Chunks found to differ, by store and kind"),
            Self::AbsentRows => {
                (Gauge, "chunk_sync_absent_rows", "Living chunks without a row, by state: hidden or candidate")
            }
            Self::DeletionsHeld => (
                Gauge,
                "chunk_sync_deletions_held",
                "Chunks without a row that are not deleted until the operator decides",
            ),
            Self::TableSuspect => (Gauge, "chunk_sync_table_suspect", "1 while the table is not the one on record"),
            Self::Repaired => (Counter, "chunk_sync_repaired_total", "Chunks found to differ and repaired"),
            Self::DirectWrites => (
                Counter,
                "chunk_sync_direct_writes_total",
                "Changes that other programs made directly in a store, by store",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_and_only_counters_end_in_total() {
        let names: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            assert_eq!(metric.kind() == Kind::Counter, metric.name().ends_with("_total"), "{}", metric.name());
        }
    }
}
