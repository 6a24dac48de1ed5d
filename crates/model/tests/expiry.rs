//! Expiry of records: what must go goes, what must stay stays, and what is shown does not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::merge::{Change, Kind, Strategies, expire};
use chunk_sync_model::{EventType, Time, Writer};
use proptest::prelude::*;

use support::histories::{histories, order, play, strategies};
use support::{MergedChunk, chunk, delete, update, view, with_dense};

/// Longer ago than any retention time.
fn later() -> Time {
    Time::from_micros(4_000_000_000_000_000)
}

/// Stamps and expires the record as the service does between merges; returns whether anything went.
fn age(held: &mut MergedChunk) -> bool {
    let Some(mut record) = held.record.take() else { return false };
    record.stamp(Time::from_micros(1_800_000_000_000_000));
    let expired = expire(&record, held.state.as_deref(), &held.strategies, later());
    let went = expired.is_some();
    held.record = Some(expired.unwrap_or(record));
    went
}

fn bytes(held: &MergedChunk) -> Vec<u8> {
    held.record.as_ref().unwrap().encode().unwrap()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_deleted_chunk_keeps_about_a_hundred_bytes_and_nothing_of_its_text() {
    let mut held = MergedChunk::default();
    held.take(&update(Writer::Claude, 1, &chunk("claude", "SECRET-4711 of claude", &[("team", "SECRET-4711")])));
    held.take(&update(Writer::Cognee, 2, &chunk("cognee", "SECRET-4711 of cognee", &[])));
    held.take(&delete(Writer::Claude, 3));
    assert!(contains(&bytes(&held), "SECRET-4711"), "until it expires, a later create may need it");
    assert!(age(&mut held));
    assert!(!contains(&bytes(&held), "SECRET-4711"));
    assert!(bytes(&held).len() < 150, "{}", bytes(&held).len());
    // A retry queue of a writer that knew the chunk does not bring it back.
    held.take(&update(Writer::Cognee, 4, &chunk("cognee", "SECRET-4711 once more", &[])));
    assert!(held.state.is_none());
    age(&mut held);
    assert!(!contains(&bytes(&held), "SECRET-4711"), "what arrived after the delete expires, too");
    let created = chunk("cognee", "another content", &[]);
    held.take(&view(Writer::Cognee, 5, EventType::Create, &created));
    assert_eq!(held.chunk().content, "another content");
}

#[test]
fn replaced_text_expires_and_the_markers_of_its_conflict_stay() {
    let mut held = MergedChunk::default();
    held.take(&update(Writer::Claude, 1, &chunk("claude", "SECRET-4711 of claude", &[])));
    held.take(&update(Writer::Cognee, 2, &chunk("cognee", "the newer content", &[])));
    let before = held.state.clone();
    assert!(contains(&bytes(&held), "SECRET-4711"));
    assert!(age(&mut held));
    assert!(!contains(&bytes(&held), "SECRET-4711"));
    assert!(!age(&mut held), "once is enough");
    // An event that changes another part only.
    held.take(&update(Writer::Cognee, 3, &chunk("cognee", "the newer content", &[("team", "blue")])));
    let (mut expected, now) = (before.unwrap().chunk.clone(), held.chunk().clone());
    expected.metadata.extra.insert("team".into(), "blue".into());
    assert_eq!(now, expected, "conflicting_version and previous_version still show the hash");
}

#[test]
fn two_thousand_keys_set_and_removed_leave_a_small_record() {
    let mut held = MergedChunk::default();
    for i in 0..2_000 {
        held.take(&update(Writer::Claude, 10 + i, &chunk("claude", "the content", &[(&format!("key_{i}"), "value")])));
        let mut record = held.record.take().unwrap();
        record.stamp(Time::from_micros(1_800_000_000_000_000));
        // Nothing is old: only the bound on removals applies.
        let expired = expire(&record, held.state.as_deref(), &held.strategies, Time::from_micros(0));
        held.record = Some(expired.unwrap_or(record));
    }
    assert!(bytes(&held).len() < 100_000, "{}", bytes(&held).len());
    age(&mut held);
    assert!(bytes(&held).len() < 1_000, "{}", bytes(&held).len());
    assert_eq!(held.chunk().metadata.extra.len(), 1);
}

/// What a writer set itself, it can remove, even if its newer settings are echoes or removals.
#[test]
fn the_newest_value_that_took_effect_does_not_expire() {
    let mut held = MergedChunk::default();
    let with = |keys| chunk("claude", "the content", keys);
    let (bare, one, new) = (with(&[]), with(&[("k0", "v1")]), with(&[("k0", "new")]));
    let set = ["metadata.k0".parse().unwrap()];
    held.take(&update(Writer::Claude, 1, &with(&[("k0", "v0")])));
    held.take(&update(Writer::Claude, 2, &bare));
    held.take(&Change { set: &set, ..update(Writer::Claude, 3, &bare) });
    held.take(&update(Writer::Cognee, 4, &one));
    held.take(&update(Writer::Claude, 5, &one));
    let mut aged = held.clone();
    age(&mut aged);
    for change in [
        update(Writer::Cognee, 1_000, &bare),
        update(Writer::Hybrid, 1_001, &new),
        update(Writer::Claude, 1_002, &bare),
    ] {
        held.take(&change);
        aged.take(&change);
        assert_eq!(held.state, aged.state);
        age(&mut aged);
    }
}

/// A removal in `set` that a delete discarded counts again once its writer publishes the chunk without the part.
#[test]
fn a_removal_on_purpose_from_before_a_delete_does_not_expire() {
    let mut held = MergedChunk::under(Strategies::default().with(Kind::Metadata, "manual").unwrap());
    let bare = chunk("claude", "the content", &[]);
    let (two, zero) =
        (chunk("claude", "the content", &[("k0", "v2")]), chunk("claude", "the content", &[("k0", "v0")]));
    let set = ["metadata.k0".parse().unwrap()];
    held.take(&Change { set: &set, ..update(Writer::Hybrid, 1, &bare) });
    held.take(&update(Writer::Claude, 3, &bare));
    held.take(&update(Writer::Cognee, 3, &two));
    held.take(&delete(Writer::Claude, 6));
    held.take(&view(Writer::Cognee, 7, EventType::Create, &zero));
    held.take(&update(Writer::Cognee, 8, &bare));
    let mut aged = held.clone();
    age(&mut aged);
    let new = chunk("claude", "the content", &[("k0", "new")]);
    for change in [update(Writer::Hybrid, 1_000, &bare), update(Writer::Claude, 1_001, &new)] {
        held.take(&change);
        aged.take(&change);
    }
    assert_eq!(held.state, aged.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, expiry shows in nothing that is published later: parts that no event names again stay,
    /// and values that were never set before are set.
    #[test]
    fn later_changes_lead_to_the_same_state_with_and_without_expiry(
        histories in histories(4), strategies in strategies(), order in order(), by in 0..3_usize,
    ) {
        let mut kept = play(&histories, &order, &strategies);
        prop_assume!(kept.state.is_some());
        let mut aged = kept.clone();
        age(&mut aged);
        prop_assert_eq!(&kept.state, &aged.state);
        for (at, key) in [(1_000, "fresh"), (1_001, "k0"), (1_002, "other")] {
            let writer = [Writer::Claude, Writer::Cognee, Writer::Hybrid][(by + at) % 3];
            let fresh = with_dense(chunk("claude", &format!("never seen before {at}"), &[(key, "new")]), 1000.0 + at as f32);
            let change = update(writer, at as i64, &fresh);
            kept.take(&change);
            aged.take(&change);
            prop_assert_eq!(&kept.state, &aged.state);
            age(&mut aged);
        }
    }

    /// Nothing expires that is younger than the retention time.
    #[test]
    fn what_is_young_stays(histories in histories(4), order in order()) {
        let strategies = Strategies::default();
        let mut held = play(&histories, &order, &strategies);
        if let Some(record) = &mut held.record {
            record.stamp(later());
            let before = Time::from_micros(later().micros() - 3_600_000_001);
            prop_assert_eq!(expire(record, held.state.as_deref(), &strategies, before), None);
        }
    }
}
