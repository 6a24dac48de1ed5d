//! The row as stored counts: merges whose row a trigger alters, for all histories and orders of arrival.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use chunk_sync_model::merge::{Strategies, stored_as};
use chunk_sync_model::{State, Time, Writer};
use proptest::prelude::*;

use support::MergedChunk;
use support::histories::{Step, arrivals, histories, order, play};

/// A trigger that alters texts and times, and adds a key; applied twice it is as applied once.
fn trigger(state: &State) -> State {
    let mut state = state.clone();
    let stamp = |text: &mut String| {
        if !text.ends_with('!') {
            text.push('!');
        }
    };
    stamp(&mut state.chunk.content);
    for value in state.chunk.metadata.extra.values_mut() {
        if let serde_json::Value::String(text) = value {
            stamp(text);
        }
    }
    state.chunk.metadata.extra.insert("seen".to_owned(), "by the database".into());
    state.chunk.metadata.updated_at = Time::from_micros(4_000_000_000_000_000);
    state
}

fn stored(held: &mut MergedChunk, before: Option<&Arc<State>>) {
    let Some(sent) = held.state.clone().filter(|sent| Some(sent) != before) else { return };
    let row = trigger(&sent);
    held.record = Some(stored_as(held.record.take().unwrap(), &sent, &row, &Strategies::default()));
    held.state = Some(Arc::new(row));
}

fn play_with_trigger(histories: &[Vec<Step>], draws: &[u8]) -> MergedChunk {
    let mut held = MergedChunk::under(Strategies::default());
    for step in arrivals(histories, draws) {
        let before = held.state.clone();
        held.take(&step.change());
        stored(&mut held, before.as_ref());
    }
    held
}

fn config() -> ProptestConfig {
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if is_set { default } else { ProptestConfig { cases: 4_000, ..default } }
}

/// What the merge decides on: without the key and the time that the trigger sets, and without the markers of conflicts,
/// which name a value in the form that was shown.
fn decided(state: &State) -> (chunk_sync_model::Chunk, bool) {
    let mut chunk = state.chunk.clone().into_view();
    chunk.metadata.extra.retain(|key, _| key.starts_with('k'));
    chunk.metadata.updated_at = Time::from_micros(0);
    (chunk, state.embedding_stale)
}

proptest! {
    #![proptest_config(config())]

    /// The writers publish values as they set them, so the trigger changes the form of the outcome and nothing else.
    #[test]
    fn a_trigger_changes_the_form_of_the_outcome_and_nothing_else(histories in histories(3), order in order()) {
        let plain = play(&histories, &order, &Strategies::default());
        let with_trigger = play_with_trigger(&histories, &order);
        let expected = plain.state.as_deref().map(|state| decided(&trigger(state)));
        prop_assert_eq!(with_trigger.state.as_deref().map(decided), expected);
    }

    /// A writer that reads the stored row and publishes it states nothing new.
    #[test]
    fn writing_back_the_stored_row_changes_nothing(histories in histories(3), order in order(), by in 0..3_usize) {
        let mut held = play_with_trigger(&histories, &order);
        if let Some(read) = held.state.clone() {
            let reader = [Writer::Claude, Writer::Cognee, Writer::Hybrid][by];
            held.take(&support::update(reader, 1_000, &read.chunk.clone().into_view()));
            let shown = held.state.clone().unwrap();
            prop_assert_eq!(decided(&shown).0, decided(&read).0);
            prop_assert_eq!(shown.chunk.metadata.updated_at, read.chunk.metadata.updated_at);
        }
    }
}

#[test]
fn both_forms_of_a_value_are_its_base_and_its_echo() {
    let chunk = support::chunk("claude", "as it was published", &[]);
    let mut held = MergedChunk::under(Strategies::default());
    held.take(&support::update(Writer::Claude, 10, &chunk));
    stored(&mut held, None);
    let row = held.state.clone().unwrap();
    assert_eq!(row.chunk.content, "as it was published!");
    for (time, writer) in [(20, Writer::Claude), (30, Writer::Cognee), (40, Writer::Claude)] {
        for view in [&chunk, &row.chunk.clone().into_view()] {
            held.take(&support::update(writer, time, view));
            assert_eq!(held.state.as_ref().unwrap().chunk.content, row.chunk.content, "{writer} at {time}");
        }
    }
}

#[test]
fn the_stored_form_belongs_to_every_setting_of_the_value() {
    let chunk = support::chunk("claude", "as it was published", &[("k", "set by both")]);
    let mut held = MergedChunk::under(Strategies::default());
    // Both set the same value, which the row shows as that of the first.
    held.take(&support::update(Writer::Cognee, 10, &chunk));
    held.take(&support::update(Writer::Hybrid, 20, &chunk));
    stored(&mut held, None);
    let read = held.state.clone().unwrap().chunk.clone().into_view();
    // These merges reach the row as one: the trigger has not stored the value of the second before it is repeated.
    held.take(&support::delete(Writer::Claude, 15));
    held.take(&support::update(Writer::Hybrid, 40, &read));
    stored(&mut held, None);
    // Arrives late and is the newest change: the second writer repeats what it has read.
    held.take(&support::update(Writer::Claude, 30, &support::chunk("claude", "changed", &[("k", "changed")])));
    let shown = &held.state.as_ref().unwrap().chunk;
    assert_eq!((shown.content.as_str(), &shown.metadata.extra["k"]), ("changed", &"changed".into()));
}
