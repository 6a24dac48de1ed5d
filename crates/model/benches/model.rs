//! How long a typical chunk takes on its way through the model: parsed, hashed, merged, its record encoded and decoded.
#![allow(clippy::unwrap_used, reason = "a benchmark of valid input")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use chunk_sync_model::merge::{Merged, Strategies, merge};
use chunk_sync_model::{Event, Limits, Record, State, Writer};
use divan::Bencher;

use support::{typical, update};

fn main() {
    divan::main();
}

fn event() -> Event {
    Event::of_chunk(typical("claude", 1))
}

/// The record and the state of the chunk after its first event.
fn merged() -> (Record, Option<Arc<State>>) {
    let chunk = typical("claude", 1);
    let Merged { record, state, .. } = merge(None, None, &update(Writer::Claude, 1, &chunk), &Strategies::default());
    (record, state)
}

#[divan::bench]
fn parse_an_event_from_json(bencher: Bencher<'_, '_>) {
    let (json, limits) = (event().to_json(), Limits::default());
    bencher.bench(|| Event::from_json(&json, &limits).unwrap());
}

#[divan::bench]
fn parse_an_event_from_fields(bencher: Bencher<'_, '_>) {
    let fields: Vec<_> = event().to_fields().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let limits = Limits::default();
    bencher.bench(|| Event::from_fields(&fields, &limits).unwrap());
}

#[divan::bench]
fn print_an_event_as_fields(bencher: Bencher<'_, '_>) {
    let event = event();
    bencher.bench(|| event.to_fields());
}

#[divan::bench]
fn hash_every_part(bencher: Bencher<'_, '_>) {
    let chunk = typical("claude", 1);
    bencher.bench(|| chunk.parts().into_iter().map(|(_, value)| value.hash()).collect::<Vec<_>>());
}

#[divan::bench]
fn merge_a_new_chunk(bencher: Bencher<'_, '_>) {
    let (chunk, strategies) = (typical("claude", 1), Strategies::default());
    bencher.bench(|| merge(None, None, &update(Writer::Claude, 1, &chunk), &strategies));
}

#[divan::bench]
fn merge_another_content_and_vector(bencher: Bencher<'_, '_>) {
    let (chunk, strategies) = (typical("claude", 2), Strategies::default());
    bencher
        .with_inputs(merged)
        .bench_values(|(record, state)| merge(Some(record), state, &update(Writer::Claude, 2, &chunk), &strategies));
}

#[divan::bench]
fn merge_a_second_writer(bencher: Bencher<'_, '_>) {
    let (chunk, strategies) = (typical("cognee", 1), Strategies::default());
    bencher
        .with_inputs(merged)
        .bench_values(|(record, state)| merge(Some(record), state, &update(Writer::Cognee, 2, &chunk), &strategies));
}

#[divan::bench]
fn encode_a_record(bencher: Bencher<'_, '_>) {
    let (record, _) = merged();
    bencher.bench(|| record.encode().unwrap());
}

#[divan::bench]
fn decode_a_record(bencher: Bencher<'_, '_>) {
    let bytes = merged().0.encode().unwrap();
    bencher.bench(|| Record::decode(&bytes).unwrap());
}
