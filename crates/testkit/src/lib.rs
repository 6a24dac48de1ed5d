//! Contract tests for every connector. Used by tests only.
//!
//! A suite is a module of claims, each an `async fn` generic over a [`Fixture`]; its macro makes one test per claim.
//! The ports in memory are here, too; the suites themselves are tested on them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs, reason = "the name of a claim states it")]

mod absence_log;
pub mod bus;
pub mod certificates;
pub mod empty;
mod eventually;
pub mod fuzz;
pub mod graph_store;
mod history;
pub mod installation;
pub mod lease;
pub mod memory;
pub mod merge_bus;
pub mod merging;
pub mod qdrant_server;
pub mod records;
pub mod scan;
pub mod scenarios;
pub mod simulation;
pub mod states;
pub mod store;
pub mod tls_front;
mod upkeep_ports;
pub mod vector_store;
pub mod waiting;

use std::sync::Arc;

use async_trait::async_trait;
pub use eventually::eventually;

/// A port under test, in an environment of its own: a directory, database, stream or key space that no other test sees.
/// Embedding models are those of `Limits::default()`.
#[async_trait]
pub trait Fixture: Sized + Send + Sync {
    /// The trait of the engine under test, such as `dyn Projection`.
    type Port: ?Sized + Send + Sync;

    /// A fresh, empty and prepared environment. Panics if its service is missing, and states how to provide it.
    async fn fresh() -> Self;

    /// The port.
    fn port(&self) -> Arc<Self::Port>;

    /// Drops the port and opens another on the same environment, as after a restart of the process.
    async fn reopen(&mut self);
}

/// One test for each claim of a suite.
#[macro_export]
macro_rules! suite {
    ($suite:ident, $fixture:ty, [$($claim:ident),* $(,)?]) => {
        mod $suite {
            #[allow(unused_imports, reason = "depends on where the fixture is defined")]
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    $crate::$suite::$claim::<$fixture>().await;
                }
            )*
        }
    };
}

/// Contract of every store.
#[macro_export]
macro_rules! store_suite {
    ($fixture:ty) => {
        $crate::suite!(
            store,
            $fixture,
            [
                a_newer_state_replaces_an_older_one,
                an_older_or_equal_version_changes_nothing,
                a_repeated_batch_is_harmless,
                each_write_of_a_batch_is_answered_for_itself,
                any_history_ends_as_a_plain_map_would,
                a_deleted_chunk_is_gone_and_can_come_again,
                deleting_what_is_not_there_is_durable,
                every_state_is_read_back_as_expected,
                any_state_replaces_any_other,
                a_page_follows_the_other_without_gap_or_repetition,
                the_first_and_the_last_id_are_listed_too,
                answers_come_in_the_order_asked,
                what_was_answered_survives_a_restart,
                preparing_twice_loses_nothing,
                one_batch_may_hold_a_thousand_writes,
                of_two_writers_at_once_the_newer_state_stays,
                counts_follow_what_is_held,
            ]
        );
    };
}

/// Contract of a store with typed vectors, beyond that of every store.
#[macro_export]
macro_rules! vector_store_suite {
    ($fixture:ty) => {
        $crate::suite!(
            vector_store,
            $fixture,
            [
                a_vector_of_the_wrong_dimension_fails_alone,
                a_write_without_new_vectors_replaces_all_but_them,
                vectors_are_written_where_older_ones_are_held,
                a_vector_that_is_gone_is_gone,
                one_batch_may_hold_writes_of_every_kind,
            ]
        );
    };
}

/// Contract of a graph store, beyond that of every store.
#[macro_export]
macro_rules! graph_store_suite {
    ($fixture:ty) => {
        $crate::suite!(
            graph_store,
            $fixture,
            [
                entities_of_all_chunks_are_counted_together,
                what_only_a_chunk_supported_goes_with_it,
                what_others_support_stays,
                each_chunk_keeps_its_own_values_of_a_shared_entity,
                counts_are_plain_counts_after_any_history,
                chunks_that_share_entities_are_written_at_once,
                an_empty_graph_has_nothing,
            ]
        );
    };
}

/// Contract of the system of record.
#[macro_export]
macro_rules! records_suite {
    ($fixture:ty) => {
        $crate::suite!(
            records,
            $fixture,
            [
                a_merge_finds_what_the_last_one_left,
                every_state_comes_back_from_a_merge_as_it_was,
                what_is_held_comes_in_the_order_asked,
                a_dropped_merge_writes_nothing_and_holds_no_lock,
                a_merge_keeps_others_out_until_it_commits,
                a_tombstone_stays_when_the_row_goes,
                a_deleted_row_can_come_again,
                a_record_changes_without_its_row,
                rows_are_paged_in_order_of_id,
                reads_are_bounded_by_bytes,
                merges_of_one_chunk_happen_one_after_the_other,
                merges_that_share_chunks_the_other_way_round_all_happen,
                an_abandoned_merge_happened_wholly_or_not_at_all,
                a_row_is_never_read_without_its_record,
                the_outbox_is_listed_oldest_first,
                an_outbox_entry_keeps_its_greatest_version,
                an_outbox_entry_renewed_while_it_is_written_stays,
                hundreds_of_outbox_entries_are_added_and_removed_at_once,
                the_outbox_is_filled_with_the_row,
                of_three_chunks_none_may_be_deleted_by_comparison,
                of_fifty_chunks_five_may_be_deleted_over_all_passes_and_processes,
                of_ten_thousand_chunks_a_hundred_may_be_deleted_over_all_passes_and_processes,
                a_note_is_written_and_removed_with_the_merge,
                a_candidate_replaces_another_note_and_keeps_its_own_time,
                a_row_that_was_seen_takes_confirmation_and_approval_back,
                conflicts_are_recorded_with_the_row_as_they_were_met,
                a_merge_that_did_not_happen_records_no_conflict,
                conflicts_are_listed_by_what_is_asked_for,
                a_page_of_conflicts_is_bounded_in_bytes,
                what_is_decided_closes_what_is_open_of_that_part,
                settled_conflicts_are_forgotten_oldest_first_and_open_ones_never,
                the_record_is_cut_to_a_number_of_bytes,
                hundreds_of_conflicts_are_recorded_and_closed_at_once,
                a_record_is_idle_until_a_merge_writes_it_and_once_until_it_is_swept,
                watched_chunks_stay_until_the_latest_time,
                requested_erasures_stay_until_they_are_withdrawn,
                records_and_outbox_survive_a_restart,
                hundreds_are_merged_at_once,
                asking_for_nothing_is_harmless,
            ]
        );
    };
}

/// Contract of the installation record.
#[macro_export]
macro_rules! installation_suite {
    ($fixture:ty) => {
        $crate::suite!(
            installation,
            $fixture,
            [
                a_set_is_read_back_as_it_was_recorded,
                of_two_that_record_a_set_one_is_refused,
                a_merge_of_another_set_is_refused_and_commits_nothing,
                a_store_goes_with_what_waited_for_it,
                a_store_is_filled_by_a_process_of_its_set_only,
                an_installation_is_fresh_until_a_chunk_has_a_record,
            ]
        );
    };
}

/// Contract of a bus whose entries are finished by the merge, beyond that of every bus.
#[macro_export]
macro_rules! merge_bus_suite {
    ($fixture:ty) => {
        $crate::suite!(
            merge_bus,
            $fixture,
            [
                a_merge_finishes_its_entries_and_fills_the_outbox,
                a_merge_that_changes_nothing_finishes_its_entries,
                an_abandoned_merge_finishes_wholly_or_not_at_all,
                what_a_merge_finishes_makes_room,
                an_entry_that_commits_late_is_read_though_later_ones_were_finished,
                a_publication_that_never_commits_blocks_no_other,
                what_other_processes_publish_is_read_while_it_comes,
                a_waiting_read_wakes_when_another_process_publishes,
                a_removed_outbox_entry_stays_removed,
            ]
        );
    };
}

/// Contract of every lease, with the merges that it fences.
#[macro_export]
macro_rules! lease_suite {
    ($fixture:ty) => {
        $crate::suite!(
            lease,
            $fixture,
            [
                a_free_lease_is_taken_by_one,
                a_lease_that_is_renewed_is_not_taken,
                a_lease_that_stands_still_is_taken_and_its_holder_learns_it,
                calls_whose_answer_was_lost_may_be_repeated,
                a_merge_is_refused_under_any_other_token,
                a_takeover_and_merges_at_once_never_overlap,
            ]
        );
    };
}

/// Contract of every bus.
#[macro_export]
macro_rules! bus_suite {
    ($fixture:ty) => {
        $crate::suite!(
            bus,
            $fixture,
            [
                what_is_published_is_read_in_order,
                what_is_acknowledged_is_not_handed_out_again,
                what_is_unfinished_comes_again_first_and_is_counted,
                an_orderly_handover_is_not_counted,
                a_count_is_set_and_lifts_a_suspicion,
                a_read_hands_out_no_more_than_asked,
                a_waiting_read_wakes_when_something_comes,
                a_call_that_is_not_polled_blocks_no_other,
                a_dropped_read_loses_nothing,
                two_readers_never_get_the_same,
                a_dead_letter_keeps_its_fields_and_states_the_reason,
                letters_are_listed_and_dropped,
                a_letter_without_an_entry_is_only_added,
                malformed_entries_pass_unaltered_and_block_no_other,
                the_depth_separates_unread_from_pending,
                trimming_leaves_what_is_unfinished,
                an_entry_has_the_clock_of_the_bus,
                erasing_counts_what_is_unfinished,
                a_full_bus_is_busy_until_there_is_room,
                preparing_again_loses_nothing,
                publishers_at_once_lose_nothing,
            ]
        );
    };
}

/// The SQL that ends the capture of a test's database and drops its slot, `chunk_sync_slot_` and the name of the test.
#[must_use]
pub fn drop_slot(name: &str) -> String {
    format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
         WHERE slot_name = 'chunk_sync_slot_{name}' AND active;
         SELECT pg_sleep(0.2);
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
         WHERE slot_name = 'chunk_sync_slot_{name}'"
    )
}
