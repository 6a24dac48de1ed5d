//! The simulation can fail: each of these ports breaks one promise, and is detected within a few seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "prints which seed found the flaw, how fast, and by which message")]

#[path = "planted/bus.rs"]
mod bus;
#[path = "planted/capture.rs"]
mod capture;
#[path = "planted/disk.rs"]
mod disk;
#[path = "planted/records.rs"]
mod records;
#[path = "planted/store.rs"]
mod store;
#[path = "planted/trouble.rs"]
mod trouble;
#[path = "planted/waiting.rs"]
mod waiting;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chunk_sync_engine::Clock;
use chunk_sync_engine::ports::{Bus, FinishedBy};
use chunk_sync_testkit::simulation::{Installation, Plant, run};
use chunk_sync_wal::disk::Disk;

/// True every nth time.
#[derive(Clone)]
struct Every(u64, Arc<AtomicU64>);

impl Every {
    fn new(times: u64) -> Self {
        Self(times, Arc::default())
    }

    fn now(&self) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed) % self.0 == self.0 - 1
    }
}

/// Asserts that the flaw is detected within this many seeds, with a message that contains one of these texts.
fn is_found_out(flaw: &str, seeds: u64, says: &[&str], plant: impl Fn() -> Plant) {
    is_found_out_by(Installation::single(FinishedBy::Acknowledgement), flaw, seeds, says, plant);
}

/// The same, with entries finished by `finished_by`.
fn is_found_in(finished_by: FinishedBy, flaw: &str, seeds: u64, says: &[&str], plant: impl Fn() -> Plant) {
    is_found_out_by(Installation::single(finished_by), flaw, seeds, says, plant);
}

/// The same in that installation.
fn is_found_out_by(installation: Installation, flaw: &str, seeds: u64, says: &[&str], plant: impl Fn() -> Plant) {
    let began = Instant::now();
    for seed in 0..seeds {
        if let Err(what) = run(seed, installation, plant()) {
            let short: String = what.chars().take(160).collect();
            // Bypasses the output capture of the test runner, as the seeds of the simulation do.
            let result = format!("{flaw}: found by seed {seed} of {seeds} after {:.1?}\n", began.elapsed());
            std::io::stderr().write_all(result.as_bytes()).unwrap();
            eprintln!("{short}");
            assert!(says.iter().any(|says| what.contains(says)), "detected for another reason: {what}");
            return;
        }
    }
    panic!("{flaw}: not found in {seeds} seeds");
}

#[test]
fn a_log_that_reports_synced_before_it_is() {
    let flaw = |disk| -> Arc<dyn Disk> { Arc::new(disk::Flawed(disk, disk::Flaw::NeverSyncs)) };
    let plant = || Plant { disk: Box::new(flaw), ..Plant::default() };
    is_found_out("a log that never syncs", 400, &["the row of", "the record of", "misses", "damaged lines"], plant);
}

#[test]
fn a_log_that_ignores_its_checksums() {
    let flaw = |disk| -> Arc<dyn Disk> { Arc::new(disk::Flawed(disk, disk::Flaw::Reseals)) };
    let plant = || Plant { disk: Box::new(flaw), ..Plant::default() };
    is_found_out("a log without checksums", 400, &["a merge of", "the row of", "is a dead letter"], plant);
}

#[test]
fn a_process_that_merges_with_a_wrong_clock() {
    let plant = || {
        let clock: bus::OwnClock = Arc::default();
        let own = Arc::clone(&clock);
        let flaw =
            move |bus| -> Arc<dyn Bus> { Arc::new(bus::Flawed(bus, bus::Flaw::StatesTheTimeOf(Arc::clone(&own)))) };
        let note = move |process: Clock| {
            *clock.lock().unwrap() = Some(process.clone());
            process
        };
        Plant { bus: Box::new(flaw), clock: Box::new(note), ..Plant::default() }
    };
    is_found_out(
        "a merge with a wrong clock",
        400,
        &["the record of", "far ahead of the clock", "the row of", "is a dead letter"],
        plant,
    );
}

#[test]
fn a_system_of_record_that_settles_without_recording() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::RecordsNothing))),
        ..Plant::default()
    };
    is_found_out("records that record nothing", 20, &["the row of", "a merge of"], plant);
}

#[test]
fn a_system_of_record_that_records_what_it_sent_and_not_what_was_stored() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::RecordsWhatItSent))),
        triggers: true,
        ..Plant::default()
    };
    is_found_out("records of what was sent", 40, &["the row of", "the record of", "misses", "holds"], plant);
}

/// The trigger itself is no flaw.
#[test]
fn a_trigger_whose_rows_are_recorded_as_stored_breaks_nothing() {
    for finished_by in [FinishedBy::Acknowledgement, FinishedBy::Merge] {
        for processes in [1, 2] {
            for seed in 0..40 {
                let plant = Plant { triggers: true, ..Plant::default() };
                let result = run(seed, Installation { processes, finished_by }, plant);
                assert!(result.is_ok(), "seed {seed}, {processes} processes, {finished_by:?}: {result:?}");
            }
        }
    }
}

#[test]
fn a_system_of_record_that_forgets_the_outbox() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::ForgetsDebts))),
        ..Plant::default()
    };
    is_found_out("records that forget the outbox", 60, &["misses", "holds"], plant);
}

#[test]
fn a_system_of_record_that_removes_newer_outbox_entries() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::PaysWhateverVersion))),
        ..Plant::default()
    };
    is_found_out("records that remove newer outbox entries", 2_000, &["misses", "holds"], plant);
}

#[test]
fn a_system_of_record_without_outbox_lets_a_dead_store_stop_the_others() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::RefusesDebts))),
        ..Plant::default()
    };
    is_found_out("records that refuse outbox entries", 40, &["does not settle", "does not come to an end"], plant);
}

#[test]
fn a_store_that_takes_older_states() {
    let plant = || Plant { store: Box::new(|store| Arc::new(store::Unguarded(store))), ..Plant::default() };
    is_found_out("an unguarded store", 100, &["went back"], plant);
}

#[test]
fn a_store_that_answers_before_it_has_written() {
    let plant =
        || Plant { store: Box::new(|store| Arc::new(store::Forgets(store, Every::new(20)))), ..Plant::default() };
    is_found_out("a store that forgets", 40, &["misses", "holds"], plant);
}

#[test]
fn a_bus_that_takes_a_read_for_an_acknowledgement() {
    let plant =
        || Plant { bus: Box::new(|bus| Arc::new(bus::Flawed(bus, bus::Flaw::FinishesOnRead))), ..Plant::default() };
    is_found_out(
        "a bus that forgets what it handed out",
        60,
        &["the row of", "the record of", "a row or record", "not among"],
        plant,
    );
}

#[test]
fn a_bus_that_acknowledges_what_it_does_not_have() {
    let every = Every::new(50);
    let plant = || {
        let every = every.clone();
        let flaw = move |bus| -> Arc<dyn chunk_sync_engine::ports::Bus> {
            Arc::new(bus::Flawed(bus, bus::Flaw::LosesPublished(every.clone())))
        };
        Plant { bus: Box::new(flaw), ..Plant::default() }
    };
    is_found_out("a bus that loses what was published", 40, &["never on the bus"], plant);
}

#[test]
fn a_merge_that_believes_the_commit_times_of_signals() {
    let flaw =
        |bus| -> Arc<dyn chunk_sync_engine::ports::Bus> { Arc::new(bus::Flawed(bus, bus::Flaw::BelievesCommitTimes)) };
    let plant = || Plant { bus: Box::new(flaw), ..Plant::default() };
    is_found_out(
        "a merge that believes commit times",
        60,
        &["far ahead of the clock", "the row of", "is a dead letter"],
        plant,
    );
}

#[test]
fn a_bus_that_hands_out_in_another_order() {
    let plant = || Plant { bus: Box::new(|bus| Arc::new(bus::Flawed(bus, bus::Flaw::Backwards))), ..Plant::default() };
    is_found_out("a bus out of order", 40, &["the row of", "the record of"], plant);
}

#[test]
fn a_merge_that_finishes_its_entries_without_the_outbox() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::ForgetsDebts))),
        ..Plant::default()
    };
    is_found_in(FinishedBy::Merge, "a merge without the outbox", 60, &["misses", "holds"], plant);
}

#[test]
fn a_merge_that_finishes_its_entries_and_records_nothing() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::RecordsNothing))),
        ..Plant::default()
    };
    is_found_in(FinishedBy::Merge, "a merge that only finishes", 20, &["the row of", "a merge of"], plant);
}

#[test]
fn an_outbox_that_removes_newer_writes() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::PaysWhateverVersion))),
        ..Plant::default()
    };
    is_found_in(FinishedBy::Merge, "an outbox that removes newer writes", 2_000, &["misses", "holds"], plant);
}

#[test]
fn a_bus_that_skips_what_commits_late() {
    let flaw = |bus| -> Arc<dyn chunk_sync_engine::ports::Bus> {
        Arc::new(bus::Flawed(bus, bus::Flaw::SkipsLate(Arc::default())))
    };
    let plant = || Plant { bus: Box::new(flaw), ..Plant::default() };
    is_found_in(FinishedBy::Merge, "a bus that skips what commits late", 60, &["does not settle", "come to"], plant);
}

#[test]
fn a_capture_that_confirms_before_its_change_is_safe() {
    let plant = || Plant { capture: Box::new(|log| Arc::new(capture::ConfirmsEarly(log))), ..Plant::default() };
    is_found_out("a capture that confirms early", 4000, &["misses", "holds", "the row of"], plant);
}

#[test]
fn a_capture_that_hides_what_it_missed() {
    let plant = || Plant { capture: Box::new(|log| Arc::new(capture::HidesGaps(log))), ..Plant::default() };
    is_found_out("a capture that hides gaps", 600, &["misses", "holds", "the row of"], plant);
}

#[test]
fn an_expiry_that_drops_the_newest_setting() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::ForgetsNewestSettings))),
        ..Plant::default()
    };
    is_found_out("an expiry of the newest setting", 20, &["the record of", "the row of"], plant);
}

#[test]
fn a_service_that_does_not_look_for_late_writes() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::ForgetsTheWatched))),
        ..Plant::default()
    };
    is_found_out("late writes not looked for", 1_000, &["it is deleted"], plant);
}

#[test]
fn a_merge_that_does_not_compare_the_token() {
    let plant = || Plant {
        records: Box::new(|records| Arc::new(records::Flawed::new(records, records::Flaw::IgnoresTheLease))),
        ..Plant::default()
    };
    is_found_out_by(
        Installation { processes: 2, finished_by: FinishedBy::Acknowledgement },
        "merges without the token",
        // About one seed in 250 lets a process merge after it has lost the lease.
        2_000,
        &["does not hold the lease"],
        plant,
    );
}

#[test]
fn a_takeover_that_does_not_wait_for_running_merges() {
    let plant = || Plant { lease: Box::new(|lease| Arc::new(lease.hasty())), slow_merges: 2, ..Plant::default() };
    is_found_out_by(
        Installation { processes: 2, finished_by: FinishedBy::Acknowledgement },
        "a hasty takeover",
        // Rare: the lease must change hands while a merge runs.
        10_000,
        &["does not hold the lease"],
        plant,
    );
}

fn with_waiting(flaw: impl Fn() -> waiting::Flaw + Send + Sync + 'static) -> Plant {
    Plant { waiting: Box::new(move |waiting| Arc::new(waiting::Flawed { waiting, flaw: flaw() })), ..Plant::default() }
}

#[test]
fn a_waiting_event_that_is_lost_between_its_insertion_and_its_acknowledgement() {
    let every = Every::new(3);
    let plant = || {
        let every = every.clone();
        with_waiting(move || waiting::Flaw::LosesAdded(every.clone()))
    };
    is_found_out("waiting events that are lost", 60, &["misses", "holds", "the row of", "the record of"], plant);
}

#[test]
fn an_event_that_overtakes_a_waiting_one_of_its_chunk() {
    let plant = || with_waiting(|| waiting::Flaw::Backwards);
    is_found_out("waiting events in another order", 400, &["the row of", "the record of"], plant);
}

#[test]
fn waiting_events_of_which_the_next_process_does_not_learn() {
    let plant = || with_waiting(|| waiting::Flaw::ForgetsChunks);
    let says = ["misses", "holds", "the row of", "the record of", "not among the dead letters"];
    is_found_out("waiting events that are forgotten", 60, &says, plant);
}
