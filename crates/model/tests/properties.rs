//! What holds for merge whatever the writers do and in whatever order it arrives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::merge::{Effect, Strategies};
use chunk_sync_model::{Record, SyncVersion, Writer};
use proptest::prelude::*;

use support::Held;
use support::histories::{Act, arrivals, histories, order, play, strategies};

/// As many cases as `PROPTEST_CASES` says, else `cases`.
fn cases(cases: u32) -> ProptestConfig {
    let said = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if said { default } else { ProptestConfig { cases, ..default } }
}

/// What of a record does not depend on the order: all but the sync version, and where a value happens to be kept.
fn settings(held: &Held) -> Option<Record> {
    let mut record = held.record.clone()?;
    record.version = SyncVersion::default();
    let histories = record.writers.values_mut();
    histories.flat_map(|history| history.parts.values_mut()).flatten().for_each(|setting| setting.value = None);
    Some(record)
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn every_interleaving_with_any_repetition_comes_to_the_same_state(
        histories in histories(4), one in order(), other in order(),
    ) {
        let strategies = Strategies::default();
        let (one, other) = (play(&histories, &one, &strategies), play(&histories, &other, &strategies));
        prop_assert_eq!(one.state.as_deref(), other.state.as_deref());
        prop_assert_eq!(settings(&one), settings(&other));
    }

    #[test]
    fn so_it_does_under_every_strategy(
        histories in histories(4), strategies in strategies(), one in order(), other in order(),
    ) {
        let (one, other) = (play(&histories, &one, &strategies), play(&histories, &other, &strategies));
        prop_assert_eq!(one.state.as_deref(), other.state.as_deref());
        prop_assert_eq!(settings(&one), settings(&other));
    }

    /// Reading is no change: whoever writes back what it read, once it has said all that, touches nothing.
    #[test]
    fn writing_back_what_was_read_changes_nothing(histories in histories(4), order in order(), by in 0..3_usize) {
        let mut held = play(&histories, &order, &Strategies::default());
        if let Some(read) = held.state.clone() {
            let reader = [Writer::Claude, Writer::Cognee, Writer::Hybrid][by];
            let chunk = read.chunk.clone().into_view();
            held.take(&support::update(reader, 1_000, &chunk));
            let shown = held.state.as_ref().map(|state| state.chunk.clone().into_view());
            prop_assert_eq!(shown, Some(chunk));
        }
    }

    /// What it edits is changed, what it does not is not.
    #[test]
    fn an_edit_of_what_was_read_changes_that_and_nothing_else(
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

    /// Once deleted, a chunk comes back only by a newer create, or by the first view of a writer that did not know it.
    #[test]
    fn nothing_but_a_newer_create_or_first_view_brings_a_deleted_chunk_back(
        histories in histories(4), order in order(), strategies in strategies(),
    ) {
        let mut held = Held::under(strategies);
        let mut deleted = i64::MIN;
        for step in arrivals(&histories, &order) {
            let knew = held.record.as_ref().and_then(|record| record.writers.get(&step.writer)).is_some_and(|history| {
                history.parts.get(&chunk_sync_model::Part::Existence).is_some_and(|words| words.last().unwrap().hash.is_some())
            });
            let was_gone = held.record.is_some() && held.state.is_none();
            held.take(&step.change());
            match &step.act {
                Act::Delete => deleted = deleted.max(step.micros),
                Act::View(view) if was_gone && held.state.is_some() => {
                    prop_assert!(view.create || !knew, "{step:?} brought it back");
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
    fn every_state_that_shows_has_a_greater_version_and_no_other_change_has(
        histories in histories(4), strategies in strategies(), order in order(),
    ) {
        let mut held = Held::under(strategies);
        for step in arrivals(&histories, &order) {
            let before = held.clone();
            let effect = held.take(&step.change()).effect;
            let version = |held: &Held| held.record.as_ref().map(|record| record.version).unwrap_or_default();
            match effect {
                Effect::Shown => prop_assert!(version(&held) > version(&before)),
                _ => prop_assert_eq!(version(&held), version(&before)),
            }
            prop_assert_eq!(effect == Effect::Shown, held.state != before.state);
        }
    }

    /// A conflict has four sides, its outcome is that which shows, and it comes back from JSON as it was.
    #[test]
    fn every_conflict_says_what_shows(histories in histories(4), strategies in strategies(), order in order()) {
        use chunk_sync_model::merge::{Conflict, Outcome};
        let mut held = Held::under(strategies);
        for step in arrivals(&histories, &order) {
            for conflict in held.take(&step.change()).conflicts {
                let json = serde_json::to_string(&conflict).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Conflict>(&json).unwrap(), &conflict);
                prop_assert_eq!(conflict.source.writer, Some(step.writer));
                for side in [&conflict.base, &conflict.source, &conflict.target, &conflict.result] {
                    prop_assert!(side.hash.is_none() || side.value.is_some(), "no value at hand: {conflict:?}");
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
