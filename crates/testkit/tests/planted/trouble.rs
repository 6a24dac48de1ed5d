//! Flaws that only the troubles of the field reveal.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FinishedBy, Heartbeat, Heartbeats};
use chunk_sync_model::SyncVersion;
use chunk_sync_testkit::simulation::{Plant, Trouble};

use super::records::{Flaw, Flawed};
use super::store::Ledger;
use super::{is_found_in, is_found_out};

fn records(trouble: Trouble, flaw: Flaw) -> impl Fn() -> Plant {
    move || Plant {
        trouble: Some(trouble),
        records: Box::new(move |records| Arc::new(Flawed::new(records, flaw))),
        ..Plant::default()
    }
}

#[test]
fn a_merge_that_takes_a_hidden_row_for_a_deleted_one() {
    let plant = records(Trouble::HiddenRows, Flaw::TakesAbsenceForDeletion);
    is_found_out("a hidden row taken for a deleted one", 60, &["which it never did"], plant);
}

#[test]
fn a_pending_write_that_deletes_a_chunk_whose_row_is_hidden() {
    let plant = records(Trouble::HiddenRows, Flaw::DeletesWhatItCannotRead);
    is_found_out("a pending write of a hidden row", 100, &["it lives"], plant);
}

#[test]
fn a_merge_that_takes_the_rows_of_a_swapped_table_for_deleted() {
    let plant = records(Trouble::SwappedTable, Flaw::TakesAbsenceForDeletion);
    is_found_out("rows of a swapped table taken for deleted", 100, &["which it never did"], plant);
}

#[test]
fn a_merge_that_writes_into_another_table_that_bears_the_name() {
    for finished_by in FinishedBy::ALL {
        let plant = || Plant {
            trouble: Some(Trouble::SwappedTable),
            rows: Box::new(|rows| rows.careless()),
            ..Plant::default()
        };
        is_found_in(finished_by, "rows written into another table", 60, &["the row of", "has no row"], plant);
    }
}

#[test]
fn a_verification_that_reads_a_list_and_not_the_store() {
    let plant = || Plant {
        trouble: Some(Trouble::RestoredStore),
        store: Box::new(|store| Arc::new(Ledger::new(store))),
        ..Plant::default()
    };
    is_found_out("a list read in place of the store", 60, &["misses", "holds"], plant);
}

/// A place that has lost the value.
struct Forgetful(Arc<dyn Heartbeats>);

#[async_trait]
impl Heartbeats for Forgetful {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn noted(&self) -> Result<Option<Heartbeat>, Fault> {
        Ok(None)
    }

    async fn note(&self, beat: Heartbeat) -> Result<(), Fault> {
        self.0.note(beat).await
    }
}

#[test]
fn a_guard_without_the_value_that_was_noted_elsewhere() {
    let plant = || Plant {
        trouble: Some(Trouble::RestoredRows),
        heartbeats: Box::new(|heartbeats| Arc::new(Forgetful(heartbeats))),
        ..Plant::default()
    };
    is_found_out("a restore that nothing reveals", 20, &["that only it had", "not noticed"], plant);
}

#[test]
fn an_adoption_without_a_floor() {
    let plant = || Plant {
        trouble: Some(Trouble::RestoredRows),
        floor: Box::new(|_| SyncVersion::default()),
        ..Plant::default()
    };
    is_found_out("versions below the floor", 20, &["is used for two states"], plant);
}
