//! Flaws that only the troubles of the field reveal.

use std::sync::Arc;

use chunk_sync_testkit::simulation::{Plant, Trouble};

use super::is_found_out;
use super::store::Ledger;

#[test]
fn a_verification_that_reads_a_list_and_not_the_store() {
    let plant = || Plant {
        trouble: Some(Trouble::RestoredStore),
        store: Box::new(|store| Arc::new(Ledger::new(store))),
        ..Plant::default()
    };
    is_found_out("a list read in place of the store", 20, &["misses", "holds"], plant);
}
