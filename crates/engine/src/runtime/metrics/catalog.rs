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

macro_rules! metrics {
    ($($metric:ident: $kind:ident $name:literal, $help:literal;)*) => {
        /// What the service measures.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $help] $metric,)* }

        impl Metric {
            /// Every metric.
            pub const ALL: &[Self] = &[$(Self::$metric),*];

            /// The name at the metrics endpoint.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$metric => $name,)* }
            }

            /// The type.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$metric => Kind::$kind,)* }
            }

            /// What it counts, for the metrics endpoint.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$metric => $help,)* }
            }
        }
    };
}

metrics! {
    Events: Counter "sync_events_total", "Events that a store holds durably, once per event and store";
    Errors: Counter "sync_errors_total", "Failed attempts, by store and class of fault";
    DurationSeconds: Histogram "sync_duration_seconds", "How long each step takes a batch";
    LagSeconds: Gauge "sync_lag_seconds", "Age of the oldest event that a store does not hold yet";
    QueueSize: Gauge "sync_queue_size", "Entries on the bus, unread and pending";
    Conflicts: Counter "chunk_sync_conflicts_total", "Parts that two writers changed, by kind, strategy and outcome";
    ConflictsCut: Counter "chunk_sync_conflicts_cut_total", "Closed conflicts that were removed before their time, because the record was too long";
    ConflictsOpen: Gauge "chunk_sync_conflicts_open", "Conflicts on record that wait for the operator";
    ConflictsAutomaticRatio: Gauge "chunk_sync_conflicts_automatic_ratio", "Share of conflicts since the start decided automatically";
    DeadLettersMoved: Counter "chunk_sync_dead_letters_total", "Events moved to the dead letters, by class of fault";
    Repeated: Counter "chunk_sync_repeated_total", "Events that came late or once more and changed nothing";
    AbsentTargets: Counter "chunk_sync_absent_targets_total", "Targets of events that were dropped because the installation has no such store";
    LateWrites: Counter "chunk_sync_late_writes_total", "Chunks that a late write had changed in a store, written again";
    ClockDiffers: Gauge "chunk_sync_clock_differs", "1 while the clocks of process and bus differ too much and merging waits";
    Filling: Gauge "chunk_sync_filling", "1 while a new store is being filled";
    SettledSeconds: Histogram "chunk_sync_settled_seconds", "Age of an event, by its own time, when every store held it";
    VisibleSeconds: Histogram "chunk_sync_visible_seconds", "Time from the arrival of an event, or the commit of a row, until the store holds the change";
    CaptureLagBytes: Gauge "chunk_sync_capture_lag_bytes", "How much of its log PostgreSQL keeps for the slot; NaN if PostgreSQL does not answer";
    CaptureRunning: Gauge "chunk_sync_capture_running", "1 while this process reads PostgreSQL's log, else 0";
    CaptureSinceTimestampSeconds: Gauge "chunk_sync_capture_since_timestamp_seconds", "Since when this process has been reading PostgreSQL's log, or not reading it, in seconds since 1970";
    BusLost: Counter "chunk_sync_bus_lost_total", "Entries that the bus lost before they were finished";
    BusWarnings: Gauge "chunk_sync_bus_warnings", "Conditions of the bus that the operator must change; status names them";
    CaptureGaps: Counter "chunk_sync_capture_gaps_total", "Stretches of changes that capture may have missed, by reason";
    CommitTimesReplaced: Counter "chunk_sync_commit_times_replaced_total", "Captured transactions whose commit time lay too far ahead of the clock";
    Active: Gauge "chunk_sync_active", "1 while this process holds the lease, 0 while it stands by";
    Outbox: Gauge "chunk_sync_outbox", "Chunks with a pending write in the outbox, by store";
    DeadLetters: Gauge "chunk_sync_dead_letters", "Dead letters that wait for the operator";
    WaitingEvents: Gauge "chunk_sync_waiting_events", "Events that are set aside until they can be merged, by reason";
    WaitingSeconds: Gauge "chunk_sync_waiting_seconds", "Age of the oldest event that is set aside";
    WalBytes: Gauge "chunk_sync_wal_bytes", "Size of the write-ahead log on disk";
    ConsistencyRatio: Gauge "chunk_sync_consistency_ratio", "Share of chunks that a store, or all of them, hold correctly";
    VerifiedTimestampSeconds: Gauge "chunk_sync_verified_timestamp_seconds", "When all chunks were last compared, in seconds since 1970";
    VerifySeconds: Gauge "chunk_sync_verify_seconds", "How long it took to compare all chunks";
    StaleEmbeddings: Gauge "chunk_sync_stale_embeddings", "Chunks with an embedding of an older content, by the last comparison";
    Differences: Counter "chunk_sync_differences_total", "Chunks found to differ, by store and kind";
    AbsentRows: Gauge "chunk_sync_absent_rows", "Living chunks without a row, by state: hidden or candidate";
    DeletionsHeld: Gauge "chunk_sync_deletions_held", "Chunks without a row that are not deleted until the operator decides";
    TableSuspect: Gauge "chunk_sync_table_suspect", "1 while the table is not the one on record";
    Repaired: Counter "chunk_sync_repaired_total", "Chunks found to differ and repaired";
    DirectWrites: Counter "chunk_sync_direct_writes_total", "Changes that other programs made directly in a store, by store";
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
