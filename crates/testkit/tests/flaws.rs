//! The suites can fail: for each claim there is a flawed port that breaks it, and the claim detects it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "flaws/flawed_records.rs"]
mod flawed_records;
#[path = "flaws/flawed_store.rs"]
mod flawed_store;

use std::future::Future;

tokio::task_local! {
    /// The flaws of the ports of a suite.
    static FLAW: Flaw;
}

/// The flaw of a port.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    // Of any store.
    KeepsTheFirst,
    LastWins,
    EqualWins,
    RefusesRepetition,
    FirstAnswerForAll,
    LosesTheThird,
    DeletesNothing,
    RefusesToDeleteNothing,
    EmptySummaryIsNone,
    KeepsTheOldSummary,
    PageBeginsAtAfter,
    NilIsBelowTheFirst,
    AnswersSorted,
    ReadsAsManyAsAsked,
    ForgetsOnReopen,
    PrepareEmpties,
    TakesAHundred,
    CountsAllEver,
    // Of a store with vectors.
    FailsTogether,
    KeepsVectors,
    KeepsVectorsThatAreGone,
    // Of a graph.
    CountsLinksForEntities,
    KeepsOrphans,
    TakesTheSharedAlong,
    OneNameForAll,
    LosesWhenMet,
    // Of the system of record.
    ForgetsTheDigest,
    ListsNoTombstones,
    DeletesForGood,
    AlwaysWritesTheRow,
    DecidesOnWhatWas,
    KeepsLocksWhenDropped,
    MergesOneByOne,
    ReadsTwice,
    DebtsById,
    LastDebtWins,
    PaysWhateverVersion,
    OwesNothingWithTheRow,
    RoundsTimesOfConflicts,
    RecordsConflictsBeforehand,
    IgnoresWhoMet,
    PagesBeginBelow,
    PagesHaveEveryConflict,
    DecidesOnAllParts,
    ClosesWhatIsMetNext,
    ForgetsOpenConflicts,
    NoIdsMeanAll,
    ApprovesAboveTheLimit,
    ForgetsDeletions,
    KeepsNotes,
    LastCauseWins,
    KeepsConfirmations,
}

/// Asserts that the claim fails on ports with that flaw.
async fn is_found_out(flaw: Flaw, claim: impl Future<Output = ()> + Send + 'static) {
    let ended = tokio::spawn(FLAW.scope(flaw, claim)).await;
    assert!(ended.is_err_and(|error| error.is_panic()), "the claim does not detect {flaw:?}");
}

/// One test for each claim of a suite, with the flaws that break it.
macro_rules! found_out {
    ($suite:ident, $fixture:ty, { $($claim:ident: $($flaw:ident),+;)* }) => {
        mod $suite {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    $(is_found_out(Flaw::$flaw, chunk_sync_testkit::$suite::$claim::<$fixture>()).await;)+
                }
            )*
        }
    };
}

found_out!(store, flawed_store::Rows, {
    a_newer_state_replaces_an_older_one: KeepsTheFirst;
    an_older_or_equal_version_changes_nothing: LastWins, EqualWins;
    a_repeated_batch_is_harmless: RefusesRepetition;
    each_write_of_a_batch_is_answered_for_itself: FirstAnswerForAll;
    any_history_ends_as_a_plain_map_would: LosesTheThird, EqualWins, KeepsTheOldSummary;
    a_deleted_chunk_is_gone_and_can_come_again: DeletesNothing;
    deleting_what_is_not_there_is_durable: RefusesToDeleteNothing;
    every_state_is_read_back_as_expected: EmptySummaryIsNone;
    any_state_replaces_any_other: KeepsTheOldSummary;
    a_page_follows_the_other_without_gap_or_repetition: PageBeginsAtAfter;
    the_first_and_the_last_id_are_listed_too: NilIsBelowTheFirst;
    answers_come_in_the_order_asked: AnswersSorted;
    what_was_answered_survives_a_restart: ForgetsOnReopen;
    preparing_twice_loses_nothing: PrepareEmpties;
    one_batch_may_hold_a_thousand_writes: TakesAHundred;
    of_two_writers_at_once_the_newer_state_stays: LastWins;
    counts_follow_what_is_held: CountsAllEver;
});

found_out!(vector_store, flawed_store::Vectors, {
    a_vector_of_the_wrong_dimension_fails_alone: FailsTogether;
    a_write_without_new_vectors_replaces_all_but_them: KeepsTheOldSummary;
    vectors_are_written_where_older_ones_are_held: KeepsVectors;
    a_vector_that_is_gone_is_gone: KeepsVectorsThatAreGone;
    one_batch_may_hold_writes_of_every_kind: FirstAnswerForAll, FailsTogether;
});

found_out!(graph_store, flawed_store::Graph, {
    entities_of_all_chunks_are_counted_together: CountsLinksForEntities;
    what_only_a_chunk_supported_goes_with_it: KeepsOrphans;
    what_others_support_stays: TakesTheSharedAlong;
    each_chunk_keeps_its_own_values_of_a_shared_entity: OneNameForAll;
    counts_are_plain_counts_after_any_history: KeepsOrphans, TakesTheSharedAlong;
    chunks_that_share_entities_are_written_at_once: LosesWhenMet;
    an_empty_graph_has_nothing: KeepsOrphans;
});

found_out!(records, flawed_records::FlawedRecords, {
    a_merge_finds_what_the_last_one_left: ForgetsTheDigest;
    a_dropped_merge_writes_nothing_and_holds_no_lock: KeepsLocksWhenDropped;
    a_merge_keeps_others_out_until_it_commits: DecidesOnWhatWas;
    every_state_comes_back_from_a_merge_as_it_was: EmptySummaryIsNone;
    what_is_held_comes_in_the_order_asked: AnswersSorted;
    a_tombstone_stays_when_the_row_goes: ListsNoTombstones;
    a_deleted_row_can_come_again: DeletesForGood;
    a_record_changes_without_its_row: AlwaysWritesTheRow;
    rows_are_paged_in_order_of_id: PageBeginsAtAfter;
    reads_are_bounded_by_bytes: ReadsAsManyAsAsked;
    merges_of_one_chunk_happen_one_after_the_other: DecidesOnWhatWas;
    merges_that_share_chunks_the_other_way_round_all_happen: DecidesOnWhatWas;
    an_abandoned_merge_happened_wholly_or_not_at_all: MergesOneByOne;
    a_row_is_never_read_without_its_record: ReadsTwice;
    the_outbox_is_listed_oldest_first: DebtsById;
    an_outbox_entry_keeps_its_greatest_version: LastDebtWins, PaysWhateverVersion;
    an_outbox_entry_renewed_while_it_is_written_stays: PaysWhateverVersion;
    hundreds_of_outbox_entries_are_added_and_removed_at_once: TakesAHundred;
    the_outbox_is_filled_with_the_row: OwesNothingWithTheRow;
    conflicts_are_recorded_with_the_row_as_they_were_met: RoundsTimesOfConflicts, ForgetsOnReopen;
    a_merge_that_did_not_happen_records_no_conflict: RecordsConflictsBeforehand;
    conflicts_are_listed_by_what_is_asked_for: IgnoresWhoMet, PagesBeginBelow;
    a_page_of_conflicts_is_bounded_in_bytes: PagesHaveEveryConflict;
    what_is_decided_closes_what_is_open_of_that_part: DecidesOnAllParts, ClosesWhatIsMetNext;
    settled_conflicts_are_forgotten_oldest_first_and_open_ones_never: ForgetsOpenConflicts;
    hundreds_of_conflicts_are_recorded_and_closed_at_once: TakesAHundred;
    records_and_outbox_survive_a_restart: ForgetsOnReopen;
    hundreds_are_merged_at_once: TakesAHundred;
    asking_for_nothing_is_harmless: NoIdsMeanAll;
    of_three_chunks_none_may_be_deleted_by_comparison: ApprovesAboveTheLimit;
    of_fifty_chunks_five_may_be_deleted_over_all_passes_and_processes: ApprovesAboveTheLimit, ForgetsDeletions;
    of_ten_thousand_chunks_a_hundred_may_be_deleted_over_all_passes_and_processes: ApprovesAboveTheLimit;
    a_note_is_written_and_removed_with_the_merge: KeepsNotes;
    a_candidate_replaces_another_note_and_keeps_its_own_time: LastCauseWins;
    a_row_that_was_seen_takes_confirmation_and_approval_back: KeepsConfirmations;
});
