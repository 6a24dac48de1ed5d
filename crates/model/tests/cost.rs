//! What a chunk costs on its way through the model, as a ratio to a fixed piece of work of the same run: seconds differ
//! between machines, ratios hardly do. Each bound is about twice the ratio that was measured when it was set, so it finds
//! a step that became twice as expensive, and every cost that grows faster than its input.
//! `cargo test --test cost -- --nocapture` prints the ratios.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chunk_sync_model::document::{GraphDocument, VectorDocument};
use chunk_sync_model::merge::{Strategies, merge};
use chunk_sync_model::{Event, Limits, Record, Writer};
use sha2::{Digest, Sha256};

use support::{MergedChunk, typical, update};

/// How often each is timed, in turn. The shortest time counts: whatever else the machine does only adds to a time.
const ROUNDS: usize = 200;

/// Held while something is timed: the tests of this file run beside each other.
static TURN: Mutex<()> = Mutex::new(());

fn time<T>(mut work: impl FnMut() -> T) -> Duration {
    let began = Instant::now();
    black_box(work());
    began.elapsed()
}

/// Fails if `work` takes more than `most` times as long as `unit`.
fn assert_ratio<T, U>(name: &str, most: f64, mut unit: impl FnMut() -> U, mut work: impl FnMut() -> T) {
    let turn = TURN.lock();
    let timed = (0..ROUNDS).map(|_| (time(&mut unit), time(&mut work)));
    let (unit, work) = timed.reduce(|least, now| (least.0.min(now.0), least.1.min(now.1))).unwrap();
    drop(turn);
    let ratio = work.as_secs_f64() / unit.as_secs_f64();
    println!("{name}: {ratio:.2} of its unit, {work:?}; at most {most}");
    assert!(ratio <= most, "{name} costs {ratio:.2} times its unit of {unit:?}, at most {most} is allowed");
}

/// A chunk after so many changes by two writers, each with other content, vector and metadata.
fn changed(times: i64) -> MergedChunk {
    let mut held = MergedChunk::default();
    for number in 1..=times {
        let edition = u32::try_from(number).unwrap();
        let (writer, origin) = if number % 2 == 0 { (Writer::Cognee, "cognee") } else { (Writer::Claude, "claude") };
        held.take(&update(writer, number, &typical(origin, edition)));
    }
    held
}

#[test]
fn no_step_costs_more_than_it_did() {
    let (chunk, limits) = (typical("claude", 1), Limits::default());
    let json = Event::of_chunk(chunk.clone()).to_json();
    let held = changed(2);
    let (record, state) = (held.record.unwrap(), held.state.unwrap());
    let bytes = record.encode().unwrap();
    let (next, strategies) = (typical("claude", 3), Strategies::default());
    let merged = || merge(Some(record.clone()), Some(state.clone()), &update(Writer::Claude, 3, &next), &strategies);
    // To parse the same text without a check, and to hash it: some processors hash in hardware.
    let read = || (serde_json::from_str::<serde_json::Value>(&json).unwrap(), Sha256::digest(&json));
    assert_ratio("parse an event", 2.7, read, || Event::from_json(&json, &limits).unwrap());
    assert_ratio("print an event", 3.0, read, || Event::of_chunk(chunk.clone()).to_json());
    assert_ratio("hash every part", 1.3, read, || {
        chunk.parts().into_iter().map(|(_, value)| value.hash()).collect::<Vec<_>>()
    });
    assert_ratio("merge a change", 12.5, read, merged);
    assert_ratio("encode and decode a record", 2.2, read, || {
        (record.encode().unwrap(), Record::decode(&bytes).unwrap())
    });
    assert_ratio("the fingerprint of a point", 2.1, read, || VectorDocument::of(&state, &limits).fingerprint());
    assert_ratio("the fingerprint of a node", 0.95, read, || GraphDocument::of(&state).fingerprint());
}

#[test]
fn a_change_of_a_chunk_that_was_changed_often_costs_little_more() {
    let strategies = Strategies::default();
    let change = |held: &MergedChunk, next: &chunk_sync_model::Chunk, time| {
        let record = Record::decode(&held.record.as_ref().unwrap().encode().unwrap()).unwrap();
        merge(Some(record), held.state.clone(), &update(Writer::Claude, time, next), &strategies)
    };
    let (few, many) = (changed(10), changed(1_000));
    let next = typical("claude", 2_000);
    assert_ratio(
        "the change after 1,000 beside that after 10",
        3.2,
        || change(&few, &next, 2_000),
        || change(&many, &next, 2_000),
    );
}

#[test]
fn twice_the_chunk_costs_twice_the_time() {
    let limits = Limits::default();
    let event = |times: usize| {
        let mut chunk = typical("claude", 1);
        chunk.content = chunk.content.repeat(times);
        chunk.embeddings.dense.clear();
        Event::of_chunk(chunk).to_json()
    };
    let (one, four) = (event(8), event(32));
    assert_ratio(
        "four times the text",
        4.0,
        || Event::from_json(&one, &limits).unwrap(),
        || Event::from_json(&four, &limits).unwrap(),
    );
}
