//! Thousands of simulated lives of the service: no acknowledged change is lost, every change takes effect once, no store
//! goes back in time, a dead store stops only itself.
//!
//! `CHUNK_SYNC_SEED` replays one seed, `CHUNK_SYNC_SEEDS` says how many there are to be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "seeds and figures are for whoever repeats a test")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chunk_sync_model::Target;
use chunk_sync_testkit::simulation::{Plant, Tally, run};

const BOTH: [Target; 2] = [Target::Qdrant, Target::Neo4j];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// Lives through many seeds on all processors.
fn holds(test: &str, processes: usize, count: u64, stores: &[Target]) {
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
                    match run(seed, processes, Plant { stores: stores.to_vec(), ..Plant::default() }) {
                        Ok(tally) => *whole.lock().unwrap() += tally,
                        Err(what) => broken.lock().unwrap().push((seed, what)),
                    }
                }
            });
        }
    });
    eprintln!("{test}: seeds {seeds:?} in {:.1?}\n{}", began.elapsed(), whole.into_inner().unwrap());
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
    for seed in 0..some(200) {
        let lives = [(); 2].map(|()| run(seed, 1, Plant::default()));
        assert_eq!(lives[0], lives[1], "seed {seed}");
    }
}

#[test]
fn one_process_loses_and_repeats_nothing() {
    holds("one_process_loses_and_repeats_nothing", 1, some(2_000), &BOTH);
}

#[test]
fn two_processes_lose_and_repeat_nothing() {
    holds("two_processes_lose_and_repeat_nothing", 2, some(500), &BOTH);
}

#[test]
fn an_installation_without_vectors_loses_and_repeats_nothing() {
    holds("an_installation_without_vectors_loses_and_repeats_nothing", 1, some(500), &[Target::Neo4j]);
}

#[test]
fn an_installation_without_a_graph_loses_and_repeats_nothing() {
    holds("an_installation_without_a_graph_loses_and_repeats_nothing", 1, some(500), &[Target::Qdrant]);
}

#[test]
fn an_installation_of_rows_alone_loses_and_repeats_nothing() {
    holds("an_installation_of_rows_alone_loses_and_repeats_nothing", 1, some(500), &[]);
}
