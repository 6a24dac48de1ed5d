//! The guard over the table on record: it compares the table with the record, inserts random values that reveal a
//! restore, reviews the absent rows, and has new partitions backfilled. It runs while this process works the stream.
//!
//! # What a crash does
//! A value is inserted in the database first and noted elsewhere after that. After a crash in between, the value is
//! noted nowhere, and the earlier noted one is still in the database. A database that lacks a value that was noted
//! elsewhere within the last seven days was therefore restored to a state before it.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use super::restore::examine;
use super::review::{Review, review};
use crate::ingest::backfill::backfill;
use crate::ingest::publisher::Publisher;
use crate::ports::{AbsenceCounts, Fault, Heartbeat, Ports, RecordedTable, Suspicion};
use crate::runtime::lease::Leadership;
use crate::runtime::metrics;
use crate::runtime::progress::{Stop, Stopper};

/// The interval of values and of comparisons with the table on record.
const BEAT: Duration = Duration::from_secs(10);

/// Heartbeats between two reviews of the absent rows.
const REVIEW: u32 = 6;

/// What the guard knows, for status, readiness and page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The counts of the absent rows.
    pub counts: AbsenceCounts,
    /// Candidates that are not deleted, because they exceed the limit or because the table is not the one on record.
    pub held: u64,
    /// Why nothing is deleted by comparison, until `init --adopt`.
    pub suspicion: Option<Suspicion>,
}

impl Guarded {
    /// What the operator has to do about absent rows; empty if nothing.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let suspicion = self.suspicion.as_ref().map(|suspicion| {
            format!("{}: no chunk is deleted because its row is absent; {}", suspicion.text, Suspicion::REMEDY)
        });
        let held = (self.held > 0).then(|| {
            format!(
                "{} chunks have no row any more, and that is more than may be deleted unasked: find out why, then run \
                 `chunk-sync verify --repair --absent delete`",
                self.held
            )
        });
        suspicion.into_iter().chain(held).collect()
    }

    /// What the operator should know: rows that something hides.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let hidden = (self.counts.hidden > 0).then(|| {
            format!(
                "{} chunks have no row that the service can see, and no deletion was captured: something hides the \
                 rows; the stores keep the chunks",
                self.counts.hidden
            )
        });
        hidden.into_iter().collect()
    }
}

/// The last state of the guard. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct GuardState(Arc<watch::Sender<Guarded>>);

impl GuardState {
    /// The last state.
    #[must_use]
    pub fn get(&self) -> Guarded {
        self.0.borrow().clone()
    }
}

/// The running guard.
pub struct Guard {
    state: GuardState,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Guard {
    /// Starts to guard whenever this process works the stream. `max_deletes` is the configured limit.
    #[must_use]
    pub fn start(ports: Ports, publisher: Publisher, max_deletes: Option<u64>, leadership: Leadership) -> Self {
        let (stopper, stop) = Stopper::new();
        let state = GuardState::default();
        let watcher = Watcher { ports, publisher, max_deletes, leadership, state: state.clone() };
        Self { state, stopper, task: tokio::spawn(watcher.run(stop)) }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> GuardState {
        self.state.clone()
    }

    /// Stops the guard, also in the middle of a review: the next one continues.
    pub async fn stop(self) {
        self.stopper.stop();
        // The task ended, or it panicked and the panic was reported.
        let _ = self.task.await;
    }
}

struct Watcher {
    ports: Ports,
    publisher: Publisher,
    max_deletes: Option<u64>,
    leadership: Leadership,
    state: GuardState,
}

impl Watcher {
    async fn run(self, stop: Stop) {
        while stop.during(self.leadership.begins()).await.is_some() {
            if stop.during(self.leadership.during(self.watch())).await.is_none() {
                return;
            }
        }
    }

    async fn watch(&self) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number: u32 = 0;
        loop {
            ticks.tick().await;
            if let Err(fault) = self.heartbeat(number.is_multiple_of(REVIEW)).await {
                warn!(%fault, "could not compare the table with the one on record; retrying in 10 s");
            }
            number = number.wrapping_add(1);
        }
    }

    async fn heartbeat(&self, reviews: bool) -> Result<(), Fault> {
        let at = self.ports.clock.now();
        if let RecordedTable::NewPartitions(partitions) = examine(&self.ports).await? {
            self.carry_partitions(&partitions).await?;
        }
        self.insert_value(at).await?;
        let reviewed = match reviews {
            true => {
                let at = self.ports.bus.now().await?;
                review(&self.ports, &self.publisher, self.max_deletes, at).await?
            }
            false => Review::default(),
        };
        self.show(at, &reviewed).await
    }

    /// Rows of a partition that was attached were written before it was part of the table: none was captured.
    async fn carry_partitions(&self, partitions: &[u32]) -> Result<(), Fault> {
        let done = backfill(&self.ports, &self.publisher, None, &|_| {}).await?;
        self.ports.records.record_partitions(partitions).await?;
        info!(rows = done.rows, published = done.published, "the table has new partitions; published their rows");
        Ok(())
    }

    /// A suspicion stops the values: what is noted elsewhere stays the proof of the restore.
    async fn insert_value(&self, at: Time) -> Result<(), Fault> {
        if self.ports.records.suspicion().await?.is_some() {
            return Ok(());
        }
        let value = Uuid::new_v4();
        self.ports.records.note_heartbeat(value).await?;
        for heartbeats in &self.ports.heartbeats {
            if let Err(fault) = heartbeats.note(Heartbeat { value, at }).await {
                warn!(%fault, place = heartbeats.place(), "cannot note the value of this heartbeat; retrying in 10 s");
            }
        }
        Ok(())
    }

    async fn show(&self, at: Time, reviewed: &Review) -> Result<(), Fault> {
        let counts = self.ports.records.absence_counts(at).await?;
        let suspicion = self.ports.records.suspicion().await?;
        let held = match &suspicion {
            Some(_) => counts.deletions.confirmed,
            None => counts.deletions.held(self.max_deletes),
        };
        if reviewed.shown > 0 {
            info!(rows = reviewed.shown, "rows show again; merging them");
        }
        metrics::absent(&counts, held, suspicion.is_some());
        self.state.0.send_replace(Guarded { counts, held, suspicion });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_degrades_readiness_and_what_is_hidden_only_warns() {
        let calm = Guarded::default();
        assert!(calm.complaints().is_empty() && calm.warnings().is_empty());
        let held = Guarded { held: 3, ..calm.clone() };
        assert!(held.complaints()[0].contains("3 chunks") && held.complaints()[0].contains("--absent delete"));
        let suspicion = Some(Suspicion { text: "another table".into() });
        let suspended = Guarded { suspicion, ..calm.clone() };
        assert!(suspended.complaints()[0].contains("another table: ") && suspended.complaints()[0].contains("--adopt"));
        let hidden = Guarded { counts: AbsenceCounts { hidden: 2, ..AbsenceCounts::default() }, ..calm };
        assert!(hidden.complaints().is_empty() && hidden.warnings()[0].contains("something hides"));
    }
}
