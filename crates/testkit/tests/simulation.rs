//! Thousands of simulated lives of the service: no acknowledged change is lost, every change takes effect once, no store
//! goes back in time, a dead store stops only itself.
//!
//! `CHUNK_SYNC_SEED` replays one seed, `CHUNK_SYNC_SEEDS` says how many there are to be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "seeds and figures are for whoever repeats a test")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chunk_sync_engine::ports::FinishedBy;
use chunk_sync_testkit::simulation::{Installation, Plant, Tally, run};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// Lives through many seeds on all processors.
fn holds(test: &str, installation: Installation, count: u64) {
    let only = number("CHUNK_SYNC_SEED");
    let count = number("CHUNK_SYNC_SEEDS").unwrap_or(count);
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let (began, next) = (Instant::now(), AtomicU64::new(seeds.start));
    let (whole, broken) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed, installation, Plant::default()) {
                        Ok(tally) => *whole.lock().unwrap() += tally,
                        Err(what) => broken.lock().unwrap().push((seed, what)),
                    }
                }
            });
        }
    });
    let Installation { processes, finished_by } = installation;
    eprintln!(
        "{test}: {processes} at once, entries finished by {}, seeds {seeds:?} in {:.1?}\n{}",
        finished_by.as_str(),
        began.elapsed(),
        whole.into_inner().unwrap()
    );
    let mut broken = broken.into_inner().unwrap();
    broken.sort();
    for (seed, what) in broken.iter().take(5) {
        eprintln!("seed {seed}: {what}");
        eprintln!("  CHUNK_SYNC_SEED={seed} cargo test -p chunk-sync-testkit --test simulation {test}");
    }
    assert!(broken.is_empty(), "{} of {} seeds broke", broken.len(), seeds.end - seeds.start);
}

/// In a debug build a taste of it.
const fn some(count: u64) -> u64 {
    if cfg!(debug_assertions) { count / 20 } else { count }
}

/// A failing seed can be looked into only if it fails again.
#[test]
fn a_seed_is_one_and_the_same_life() {
    for finished_by in FinishedBy::ALL {
        for seed in 0..some(200) {
            let lives = [(); 2].map(|()| run(seed, Installation::single(finished_by), Plant::default()));
            assert_eq!(lives[0], lives[1], "seed {seed}, finished by {}", finished_by.as_str());
        }
    }
}

#[test]
fn one_process_loses_and_repeats_nothing() {
    let installation = Installation::single(FinishedBy::Acknowledgement);
    holds("one_process_loses_and_repeats_nothing", installation, some(2_000));
}

#[test]
fn a_merge_that_finishes_its_entries_loses_and_repeats_nothing() {
    let installation = Installation::single(FinishedBy::Merge);
    holds("a_merge_that_finishes_its_entries_loses_and_repeats_nothing", installation, some(2_000));
}

#[test]
fn two_processes_lose_and_repeat_nothing() {
    let installation = Installation { processes: 2, finished_by: FinishedBy::Acknowledgement };
    holds("two_processes_lose_and_repeat_nothing", installation, some(500));
}
