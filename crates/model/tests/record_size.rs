//! Measures the size of a typical chunk's record; `--nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use chunk_sync_model::Writer;

use support::{MergedChunk, typical, update};

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
