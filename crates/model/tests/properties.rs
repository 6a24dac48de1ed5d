//! Properties of merge that hold for all histories and all orders of arrival.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::merge::{Effect, Strategies};
use chunk_sync_model::{Record, SyncVersion, Writer};
use proptest::prelude::*;

use support::MergedChunk;
use support::histories::{Act, arrivals, histories, order, play, strategies};

/// The number of cases: `PROPTEST_CASES` if it is set, else `cases`.
fn cases(cases: u32) -> ProptestConfig {
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if is_set { default } else { ProptestConfig { cases, ..default } }
}

/// The record without what depends on the order of arrival: the sync version, and which setting keeps a value.
fn settings(held: &MergedChunk) -> Option<Record> {
    let mut record = held.record.clone()?;
    record.version = SyncVersion::default();
    let histories = record.writers.values_mut();
    histories.flat_map(|history| history.parts.values_mut()).flatten().for_each(|setting| setting.value = None);
    Some(record)
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn every_interleaving_with_any_repetition_gives_the_same_state(
        histories in histories(4), one in order(), other in order(),
    ) {
        let strategies = Strategies::default();
        let (one, other) = (play(&histories, &one, &strategies), play(&histories, &other, &strategies));
        prop_assert_eq!(one.state.as_deref(), other.state.as_deref());
        prop_assert_eq!(settings(&one), settings(&other));
    }

    #[test]
    fn every_interleaving_gives_the_same_state_under_every_strategy(
        histories in histories(4), strategies in strategies(), one in order(), other in order(),
    ) {
        let (one, other) = (play(&histories, &one, &strategies), play(&histories, &other, &strategies));
        prop_assert_eq!(one.state.as_deref(), other.state.as_deref());
        prop_assert_eq!(settings(&one), settings(&other));
    }

    /// A writer that publishes the shown chunk as its view changes nothing.
    #[test]
    fn writing_back_the_shown_chunk_changes_nothing(histories in histories(4), order in order(), by in 0..3_usize) {
        let mut held = play(&histories, &order, &Strategies::default());
        if let Some(read) = held.state.clone() {
            let reader = [Writer::Claude, Writer::Cognee, Writer::Hybrid][by];
            let chunk = read.chunk.clone().into_view();
            held.take(&support::update(reader, 1_000, &chunk));
            let shown = held.state.as_ref().map(|state| state.chunk.clone().into_view());
            prop_assert_eq!(shown, Some(chunk));
        }
    }

    /// A writer that publishes the shown chunk with one edit changes only the edited part.
    #[test]
    fn an_edit_of_the_shown_chunk_changes_only_the_edited_part(
        histories in histories(4), order in order(), by in 0..3_usize, key in 0..4_u8,
    ) {
        let mut held = play(&histories, &order, &Strategies::default());
        if let Some(read) = held.state.clone() {
            let reader = [Writer::Claude, Writer::Cognee, Writer::Hybrid][by];
            let mut chunk = read.chunk.clone().into_view();
            chunk.metadata.extra.insert(format!("k{key}"), "edited".into());
            held.take(&support::update(reader, 1_000, &chunk));
            let shown = held.state.as_ref().map(|state| state.chunk.clone().into_view());
            prop_assert_eq!(shown, Some(chunk));
        }
    }

    /// A deleted chunk is revived only by a newer create, or by the first view of a writer that did not know it.
    #[test]
    fn only_a_newer_create_or_a_first_view_revives_a_deleted_chunk(
        histories in histories(4), order in order(), strategies in strategies(),
    ) {
        let mut held = MergedChunk::under(strategies);
        let mut deleted = i64::MIN;
        for step in arrivals(&histories, &order) {
            let knew = held.record.as_ref().and_then(|record| record.writers.get(&step.writer)).is_some_and(|history| {
                history.parts.get(&chunk_sync_model::Part::Existence).is_some_and(|s| s.last().unwrap().hash.is_some())
            });
            let was_gone = held.record.is_some() && held.state.is_none();
            held.take(&step.change());
            match &step.act {
                Act::Delete => deleted = deleted.max(step.micros),
                Act::View(view) if was_gone && held.state.is_some() => {
                    prop_assert!(view.create || !knew, "{step:?} revived the chunk");
                    prop_assert!(step.micros >= deleted, "{step:?} is older than the delete at {deleted}");
                }
                Act::View(_) => {}
            }
        }
    }

    #[test]
    fn late_and_repeated_events_change_nothing(
        histories in histories(4), strategies in strategies(), order in order(), again in order(),
    ) {
        let mut held = play(&histories, &order, &strategies);
        let before = held.clone();
        for step in arrivals(&histories, &again) {
            let merged = held.take(&step.change());
            prop_assert_eq!(merged.effect, Effect::Nothing);
            prop_assert!(merged.conflicts.is_empty() && !merged.vectors_changed);
        }
        prop_assert_eq!(held.record, before.record);
        prop_assert_eq!(held.state, before.state);
    }

    #[test]
    fn the_version_increases_exactly_when_the_shown_state_changes(
        histories in histories(4), strategies in strategies(), order in order(),
    ) {
        let mut held = MergedChunk::under(strategies);
        for step in arrivals(&histories, &order) {
            let before = held.clone();
            let effect = held.take(&step.change()).effect;
            let version = |held: &MergedChunk| held.record.as_ref().map(|record| record.version).unwrap_or_default();
            match effect {
                Effect::Shown => prop_assert!(version(&held) > version(&before)),
                _ => prop_assert_eq!(version(&held), version(&before)),
            }
            prop_assert_eq!(effect == Effect::Shown, held.state != before.state);
        }
    }

    /// A conflict has four sides with values, its outcome matches the shown value, and it survives JSON.
    #[test]
    fn the_outcome_of_every_conflict_matches_the_shown_value(histories in histories(4), strategies in strategies(), order in order()) {
        use chunk_sync_model::merge::{Conflict, Outcome};
        let mut held = MergedChunk::under(strategies);
        for step in arrivals(&histories, &order) {
            for conflict in held.take(&step.change()).conflicts {
                let json = serde_json::to_string(&conflict).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Conflict>(&json).unwrap(), &conflict);
                prop_assert_eq!(conflict.source.writer, Some(step.writer));
                for side in [&conflict.base, &conflict.source, &conflict.target, &conflict.result] {
                    prop_assert!(side.hash.is_none() || side.value.is_some(), "a side has no value: {conflict:?}");
                }
                let shows = conflict.source.hash == conflict.result.hash;
                match conflict.outcome {
                    Outcome::SourceKept => prop_assert!(shows, "{conflict:?}"),
                    Outcome::TargetKept | Outcome::Merged => prop_assert!(!shows, "{conflict:?}"),
                    Outcome::BothKept | Outcome::Open => {}
                }
            }
        }
    }
}
