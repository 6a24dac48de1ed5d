//! Simulated runs of the service: no acknowledged change is lost, every change takes effect once, no store goes back to
//! an older version, and a dead store stops only its own writes.
//!
//! The number of seeds does not depend on the build profile and is printed at the end. `CHUNK_SYNC_SEED` replays one
//! seed, `CHUNK_SYNC_SEEDS` sets the number of seeds; `cargo xtask simulate --minutes N` runs new ones for that long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "prints the seeds that repeat a run, and the figures")]

use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chunk_sync_engine::ports::FinishedBy;
use chunk_sync_model::Target;
use chunk_sync_testkit::simulation::{Installation, Plant, Tally, Trouble, run};

/// Number of seeds for one process, for two, and of those that are run twice.
const ONE: u64 = 2_000;
const TWO: u64 = 500;
const TWICE: u64 = 200;
/// The same for each trouble of the field.
const TROUBLED_TWICE: u64 = 10;
/// Number of seeds for each installation that lacks a store.
const FEWER: u64 = 200;
/// Number of seeds for each trouble of the field and each way to finish entries.
const TROUBLED: u64 = 20;

const SINGLE: Installation = Installation { processes: 1, finished_by: FinishedBy::Acknowledgement };
const TWO_PROCESSES: Installation = Installation { processes: 2, finished_by: FinishedBy::Acknowledgement };
const TWO_WITH_MERGE_BUS: Installation = Installation { processes: 2, finished_by: FinishedBy::Merge };
const BOTH: [Target; 2] = [Target::Qdrant, Target::Neo4j];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// The results of some seeds.
#[derive(Default)]
struct Lives {
    count: u64,
    whole: Tally,
    broken: Vec<(u64, String)>,
}

/// Runs the seeds in order on all processors, and starts none after the deadline.
fn live(
    seeds: &Range<u64>,
    installation: Installation,
    plant: &(impl Fn() -> Plant + Sync),
    deadline: Option<Instant>,
) -> Lives {
    let (next, lives) = (AtomicU64::new(seeds.start), Mutex::new(Lives::default()));
    let one_after_the_other = || {
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let life = run(seed, installation, plant());
            let mut lives = lives.lock().unwrap();
            lives.count += 1;
            match life {
                Ok(tally) => lives.whole += tally,
                Err(what) => lives.broken.push((seed, what)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(one_after_the_other);
        }
    });
    let mut lives = lives.into_inner().unwrap();
    lives.broken.sort();
    lives
}

/// Runs the seeds, prints what happened in them, and asserts that none failed.
fn holds(test: &str, installation: Installation, stores: &[Target], seeds: Range<u64>, deadline: Option<Instant>) {
    let plant = || Plant { stores: stores.to_vec(), ..Plant::default() };
    holds_with(test, installation, &plant, seeds, deadline);
}

/// The same with these ports.
fn holds_with(
    test: &str,
    installation: Installation,
    plant: &(impl Fn() -> Plant + Sync),
    seeds: Range<u64>,
    deadline: Option<Instant>,
) {
    let began = Instant::now();
    let lives = live(&seeds, installation, plant, deadline);
    let (count, broken) = (lives.count, lives.broken.len());
    // Bypasses the output capture of the test runner: the number of seeds that held is part of the result.
    let finished_by = installation.finished_by.as_str();
    let result = format!(
        "{test}: entries finished by {finished_by}, {count} seeds from {}, {broken} broke, {:.1?}\n",
        seeds.start,
        began.elapsed()
    );
    std::io::stderr().write_all(result.as_bytes()).unwrap();
    eprintln!("{}", lives.whole);
    for (seed, what) in lives.broken.iter().take(5) {
        eprintln!("seed {seed}: {what}");
        eprintln!("  CHUNK_SYNC_SEED={seed} cargo test --workspace --test simulation {test}");
    }
    assert_eq!(broken, 0, "of {count} seeds");
}

/// The seeds that the environment sets, or `count` seeds from the first.
fn seeds(count: u64) -> Range<u64> {
    match number("CHUNK_SYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHUNK_SYNC_SEEDS").unwrap_or(count),
    }
}

/// A failing seed can be examined only if it fails again.
#[test]
fn a_seed_always_gives_the_same_run() {
    for finished_by in FinishedBy::ALL {
        runs_the_same_twice(Installation::single(finished_by), None, TWICE);
    }
    for trouble in Trouble::ALL {
        runs_the_same_twice(SINGLE, Some(trouble), TROUBLED_TWICE);
        runs_the_same_twice(TWO_PROCESSES, Some(trouble), TROUBLED_TWICE);
    }
}

fn runs_the_same_twice(installation: Installation, trouble: Option<Trouble>, count: u64) {
    for seed in seeds(count) {
        let lives = [(); 2].map(|()| run(seed, installation, Plant { trouble, ..Plant::default() }));
        assert_eq!(lives[0], lives[1], "seed {seed} of {installation:?} with {trouble:?}");
    }
}

#[test]
fn one_process_loses_and_repeats_nothing() {
    holds("one_process_loses_and_repeats_nothing", SINGLE, &BOTH, seeds(ONE), None);
}

#[test]
fn a_merge_that_finishes_its_entries_loses_and_repeats_nothing() {
    let installation = Installation::single(FinishedBy::Merge);
    holds("a_merge_that_finishes_its_entries_loses_and_repeats_nothing", installation, &BOTH, seeds(ONE), None);
}

#[test]
fn two_processes_lose_and_repeat_nothing() {
    holds("two_processes_lose_and_repeat_nothing", TWO_PROCESSES, &BOTH, seeds(TWO), None);
}

#[test]
fn two_processes_whose_merges_finish_their_entries_lose_and_repeat_nothing() {
    let test = "two_processes_whose_merges_finish_their_entries_lose_and_repeat_nothing";
    holds(test, TWO_WITH_MERGE_BUS, &BOTH, seeds(TWO), None);
}

/// Starts at a seed that no earlier run began with; one process for four fifths of the time.
#[test]
#[ignore = "runs for CHUNK_SYNC_MINUTES: `cargo xtask simulate --minutes N`"]
fn as_long_as_asked() {
    let minutes = number("CHUNK_SYNC_MINUTES").expect("CHUNK_SYNC_MINUTES is not set; set it to the number of minutes");
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1_000;
    let time = Duration::from_secs(60 * minutes);
    let soon = Some(Instant::now() + time * 4 / 5);
    holds("one_process_loses_and_repeats_nothing", SINGLE, &BOTH, first..u64::MAX, soon);
    holds(
        "two_processes_lose_and_repeat_nothing",
        TWO_PROCESSES,
        &BOTH,
        first..u64::MAX,
        Some(Instant::now() + time / 5),
    );
}

#[test]
fn an_installation_without_vectors_loses_and_repeats_nothing() {
    holds("an_installation_without_vectors_loses_and_repeats_nothing", SINGLE, &[Target::Neo4j], seeds(FEWER), None);
}

#[test]
fn an_installation_without_a_graph_loses_and_repeats_nothing() {
    holds("an_installation_without_a_graph_loses_and_repeats_nothing", SINGLE, &[Target::Qdrant], seeds(FEWER), None);
}

#[test]
fn an_installation_of_rows_alone_loses_and_repeats_nothing() {
    holds("an_installation_of_rows_alone_loses_and_repeats_nothing", SINGLE, &[], seeds(FEWER), None);
}

/// A trouble of the field beside all other faults, with one process and two, with a trigger and without one.
fn survives(test: &str, trouble: Trouble) {
    for installation in [SINGLE, Installation::single(FinishedBy::Merge), TWO_PROCESSES, TWO_WITH_MERGE_BUS] {
        for triggers in [false, true] {
            let plant = || Plant { trouble: Some(trouble), triggers, ..Plant::default() };
            holds_with(test, installation, &plant, seeds(TROUBLED), None);
        }
    }
}

#[test]
fn rows_that_are_hidden_for_a_while_stay_in_every_store() {
    survives("rows_that_are_hidden_for_a_while_stay_in_every_store", Trouble::HiddenRows);
}

#[test]
fn a_table_that_is_swapped_for_a_while_loses_nothing() {
    survives("a_table_that_is_swapped_for_a_while_loses_nothing", Trouble::SwappedTable);
}

#[test]
fn rows_that_go_back_to_a_backup_overwrite_nothing_before_they_are_adopted() {
    survives("rows_that_go_back_to_a_backup_overwrite_nothing_before_they_are_adopted", Trouble::RestoredRows);
}

#[test]
fn a_store_that_goes_back_to_a_backup_is_brought_forward() {
    survives("a_store_that_goes_back_to_a_backup_is_brought_forward", Trouble::RestoredStore);
}
