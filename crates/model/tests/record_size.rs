//! Measures the size of a typical chunk's record and the duration of a merge; `--nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::time::Instant;

use chunk_sync_model::{Chunk, Writer};
use serde_json::json;

use support::{MergedChunk, chunk, update};

/// A chunk with half a page of text, one vector of 768 numbers, six entities and six keys of metadata.
fn typical(origin: &str, edition: u32) -> Chunk {
    let keys: Vec<(String, String)> = (0..6).map(|i| (format!("key_{i}"), format!("value {i}"))).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut chunk = chunk(origin, &format!("edition {edition} {}", "of a text of some length ".repeat(60)), &keys);
    let entity = |i: u32| json!({"id": format!("module::function_{i}"), "type": "function", "name": format!("function_{i}"), "confidence": 0.9});
    chunk.graph = serde_json::from_value(json!({"entities": (0..6).map(entity).collect::<Vec<_>>()})).unwrap();
    let numbers: Vec<f64> = (0..768).map(|i| f64::from(i * 7 + edition) / 1000.0).collect();
    let dense = json!({"model": "gte", "vector": numbers, "timestamp": "2026-01-01T00:00:00Z"});
    chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
    chunk
}

fn size(held: &MergedChunk) -> usize {
    held.record.as_ref().unwrap().encode().unwrap().len()
}

#[test]
fn the_record_of_a_typical_chunk_stays_small_and_its_growth_is_bounded() {
    let mut held = MergedChunk::default();
    held.take(&update(Writer::Claude, 1, &typical("claude", 1)));
    let one = size(&held);
    held.take(&update(Writer::Cognee, 2, &typical("cognee", 1)));
    let two = size(&held);
    held.take(&update(Writer::Hybrid, 3, &typical("hybrid", 1)));
    let three = size(&held);
    println!("record: {one} bytes with one writer, {two} with two, {three} with three");
    assert!(three < 3 * 1024, "{three}");
    let mut rewritten = Vec::new();
    for edition in 2..100 {
        held.take(&update(Writer::Claude, i64::from(edition) * 10, &typical("claude", edition)));
        rewritten.push(size(&held));
    }
    println!(
        "record: {} bytes after one rewrite, {} after four, {} after a hundred",
        rewritten[0], rewritten[3], rewritten[97]
    );
    assert!(rewritten[97] < 40 * 1024, "{}", rewritten[97]);
}

#[test]
#[ignore = "a measurement"]
fn a_merge_without_conflict_takes_microseconds() {
    const CHUNKS: u32 = 2_000;
    let (first, second) = (typical("claude", 1), typical("claude", 2));
    let mut changes = std::time::Duration::ZERO;
    let started = Instant::now();
    for _ in 0..CHUNKS {
        let strategies = chunk_sync_model::merge::Strategies::default();
        let merged = chunk_sync_model::merge::merge(None, None, &update(Writer::Claude, 1, &first), &strategies);
        let second_started = Instant::now();
        let change = update(Writer::Claude, 2, &second);
        let merged = chunk_sync_model::merge::merge(Some(merged.record), merged.state, &change, &strategies);
        changes += second_started.elapsed();
        assert!(merged.state.is_some());
    }
    let both = started.elapsed();
    println!(
        "first view {:.1} µs, a new content and vector {:.1} µs",
        (both - changes).as_secs_f64() * 1e6 / f64::from(CHUNKS),
        changes.as_secs_f64() * 1e6 / f64::from(CHUNKS)
    );
}
