//! Tests conflicts: the outcome under each strategy, the markers in `metadata`, the recorded conflict, and resolutions
//! by an operator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::hash::content_hash;
use chunk_sync_model::merge::{Change, Conflict, Kind, Outcome, Strategies, StrategyError, auto_type, resolution};
use chunk_sync_model::{Event, EventType, Part, Time, Writer};
use serde_json::{Value, json};
use uuid::Uuid;

use support::{MergedChunk, chunk, delete, update, view, with_dense};

const A: Writer = Writer::Claude;
const B: Writer = Writer::Cognee;
const BASE: &str = "first line\n\nsecond line\n\nthird line\n\nfourth line";

fn content(strategy: &str) -> MergedChunk {
    MergedChunk::under(Strategies::default().with(Kind::Content, strategy).unwrap())
}

fn publish(held: &mut MergedChunk, writer: Writer, micros: i64, content: &str) -> Vec<Conflict> {
    held.take(&update(writer, micros, &chunk(writer.as_str(), content, &[]))).conflicts
}

fn resolve(held: &mut MergedChunk, part: &str, value: Option<&Value>, now: i64) {
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let event =
        resolution(&record, &state, &part.parse().unwrap(), value, Time::from_micros(now), Uuid::max()).unwrap();
    // The event passes through JSON, as on the bus.
    let event = Event::from_json(&event.to_json(), &chunk_sync_model::Limits::default()).unwrap();
    held.take(&Change { time: Time::from_micros(now), ..Change::from(&event) });
}

/// The keys of `metadata` with their values; in these tests all of them are conflict markers.
fn markers(held: &MergedChunk) -> Vec<(&str, String)> {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), ToOwned::to_owned);
    held.chunk().metadata.extra.iter().map(|(key, value)| (key.as_str(), text(value))).collect()
}

fn resolved(loser: &str, at: &str, strategy: &str) -> Vec<(&'static str, String)> {
    vec![
        ("conflict_detected", "true".into()),
        ("conflict_resolved_at", at.into()),
        ("conflict_timestamp", at.into()),
        ("conflicting_version", content_hash(loser)),
        ("previous_version", content_hash(loser)),
        ("resolution_strategy", strategy.into()),
    ]
}

#[test]
fn a_content_conflict_adds_markers_with_the_hash_of_the_loser_in_any_order_of_arrival() {
    let (mut one, mut other) = (MergedChunk::default(), MergedChunk::default());
    publish(&mut one, A, 1, "by claude");
    publish(&mut one, B, 2, "by cognee");
    publish(&mut other, B, 2, "by cognee");
    let conflicts = publish(&mut other, A, 1, "by claude");
    assert_eq!(conflicts[0].outcome, Outcome::TargetKept);
    for held in [&one, &other] {
        assert_eq!(held.chunk().content, "by cognee");
        assert_eq!(markers(held), resolved("by claude", "1970-01-01T00:00:00.000002Z", "last_write_wins"));
    }
    publish(&mut one, B, 3, "by cognee again");
    assert_eq!(markers(&one), [], "a further update by the same writer is not a conflict");
}

#[test]
fn markers_cannot_be_set_and_are_no_change_when_written_back() {
    let mut held = MergedChunk::default();
    publish(&mut held, A, 1, "by claude");
    publish(&mut held, B, 2, "by cognee");
    let before = held.state.clone();
    let read = held.chunk().clone();
    held.take(&update(Writer::Hybrid, 3, &read));
    held.take(&update(A, 4, &read));
    assert_eq!(held.state, before);
    assert!(
        held.record
            .unwrap()
            .writers
            .values()
            .all(|history| !history.parts.keys().any(|part| part.to_string().contains("conflict")))
    );
}

#[test]
fn equal_contents_do_not_conflict() {
    let mut held = MergedChunk::default();
    publish(&mut held, A, 1, "the same text");
    assert_eq!(publish(&mut held, B, 2, "the same text"), []);
    assert_eq!(markers(&held), []);
}

#[test]
fn a_recorded_conflict_has_four_sides_with_their_values() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "one")])));
    held.take(&update(A, 3, &chunk("claude", "the content", &[("title", "two")])));
    let conflicts = held.take(&update(B, 4, &chunk("cognee", "the content", &[("title", "three")]))).conflicts;
    let [conflict] = conflicts.as_slice() else { panic!("{conflicts:?}") };
    assert_eq!((conflict.part.to_string().as_str(), conflict.kind), ("metadata.title", Kind::Metadata));
    assert_eq!((conflict.outcome, conflict.strategy.to_string().as_str()), (Outcome::SourceKept, "last_write_wins"));
    let sides = [&conflict.base, &conflict.source, &conflict.target, &conflict.result];
    let values = sides.map(|side| (side.writer.unwrap(), side.time.unwrap().micros(), side.value.clone().unwrap()));
    assert_eq!(values, [(A, 1, json!("one")), (B, 4, json!("three")), (A, 3, json!("two")), (B, 4, json!("three"))]);
    assert_eq!(auto_type(&conflicts), "metadata");
    assert_eq!(auto_type(&[]), "none");
}

#[test]
fn the_type_of_several_conflicts_is_the_first_kind_among_them() {
    let mut held = MergedChunk::default();
    let with = |origin: &str, content: &str, n: f32| with_dense(chunk(origin, content, &[("k", content)]), n);
    held.take(&update(A, 1, &with("claude", "by claude", 1.0)));
    let conflicts = held.take(&update(B, 2, &with("cognee", "by cognee", 2.0))).conflicts;
    assert_eq!(conflicts.len(), 3);
    assert_eq!(auto_type(&conflicts), "content");
    assert_eq!(auto_type(&conflicts[1..]), "embeddings");
    let vectors = conflicts.iter().find(|conflict| conflict.kind == Kind::Embeddings).unwrap();
    assert_eq!(vectors.outcome, Outcome::BothKept);
}

#[test]
fn an_update_of_a_chunk_deleted_by_another_is_recorded_with_its_value() {
    let mut held = MergedChunk::default();
    publish(&mut held, A, 1, "the content");
    publish(&mut held, B, 2, "the content");
    held.take(&delete(A, 3));
    let conflicts = publish(&mut held, B, 4, "an update after the delete");
    let [conflict] = conflicts.as_slice() else { panic!("{conflicts:?}") };
    assert_eq!(conflict.outcome, Outcome::TargetKept);
    assert_eq!((conflict.target.writer, conflict.target.hash), (Some(A), None));
    assert_eq!(conflict.source.value, Some(json!("an update after the delete")));
    assert_eq!(conflict.result.hash, None);
}

#[test]
fn creating_a_chunk_that_another_deleted_is_a_conflict_on_existence_only() {
    let mut held = MergedChunk::default();
    publish(&mut held, A, 1, "the content");
    publish(&mut held, B, 2, "the content");
    held.take(&delete(A, 3));
    let conflicts =
        held.take(&view(B, 4, EventType::Create, &chunk("cognee", "created again", &[("k", "v")]))).conflicts;
    let [conflict] = conflicts.as_slice() else { panic!("{conflicts:?}") };
    assert_eq!((conflict.part.clone(), conflict.outcome), (Part::Existence, Outcome::SourceKept));
}

#[test]
fn under_target_wins_the_target_stays_until_a_writer_that_knows_it_changes_it() {
    let mut held = content("target_wins");
    publish(&mut held, A, 1, "by claude");
    assert_eq!(publish(&mut held, B, 2, "by cognee")[0].outcome, Outcome::TargetKept);
    assert_eq!(held.chunk().content, "by claude");
    assert_eq!(markers(&held), resolved("by cognee", "1970-01-01T00:00:00.000002Z", "target_wins"));
    publish(&mut held, B, 3, "by claude");
    publish(&mut held, B, 4, "by cognee, based on claude");
    assert_eq!(held.chunk().content, "by cognee, based on claude");
}

#[test]
fn the_value_of_the_preferred_writer_is_shown_while_it_has_one() {
    let strategies = Strategies::default().with(Kind::Metadata, "prefer:claude").unwrap();
    let mut held = MergedChunk::under(strategies);
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "by claude")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "by cognee")])));
    assert_eq!(held.metadata("title").as_deref(), Some("by claude"));
    held.take(&update(A, 3, &chunk("claude", "the content", &[])));
    assert_eq!(held.metadata("title"), None);
    held.take(&update(B, 4, &chunk("cognee", "the content", &[("title", "by cognee, later")])));
    assert_eq!(held.metadata("title").as_deref(), Some("by cognee, later"));
}

#[test]
fn a_preferred_value_is_restored_after_a_direct_write_into_the_row() {
    let mut held = content("prefer:claude");
    publish(&mut held, A, 1, "by claude");
    let mut row = held.chunk().clone();
    row.content = "by hand in the table".into();
    // The current state is the row with the direct write.
    held.state = Some(std::sync::Arc::new(chunk_sync_model::State { chunk: row.clone(), embedding_stale: false }));
    held.take(&update(Writer::Postgres, 2, &row));
    assert_eq!(held.chunk().content, "by claude");
}

#[test]
fn a_vector_overwritten_in_the_row_changes_no_other_part() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &with_dense(chunk("claude", "the content", &[]), 1.0)));
    let row = with_dense(held.chunk().clone(), 2.0);
    held.state = Some(std::sync::Arc::new(chunk_sync_model::State { chunk: row.clone(), embedding_stale: false }));
    held.take(&update(Writer::Postgres, 2, &row));
    assert_eq!(held.chunk().embeddings.dense[0].vector[0], 2.0);
    assert_eq!(held.chunk().content, "the content");
}

#[test]
fn texts_are_merged_by_line() {
    let mut held = content("merge_text");
    publish(&mut held, A, 1, BASE);
    publish(&mut held, B, 2, BASE);
    publish(&mut held, A, 3, &BASE.replace("first", "1st"));
    let conflicts = publish(&mut held, B, 4, &BASE.replace("fourth", "4th"));
    let both = BASE.replace("first", "1st").replace("fourth", "4th");
    assert_eq!(held.chunk().content, both);
    assert_eq!((conflicts[0].outcome, conflicts[0].result.value.clone()), (Outcome::Merged, Some(json!(both))));
    publish(&mut held, A, 5, &BASE.replace("first", "1st").replace("second", "2nd"));
    assert_eq!(held.chunk().content, both.replace("second", "2nd"), "a further update by A keeps the change of B");
    publish(&mut held, B, 6, &BASE.replace("fourth", "4th").replace("second", "zweite"));
    assert_eq!(held.chunk().content, both.replace("second", "zweite"), "where they conflict, the last write wins");
}

#[test]
fn a_manual_conflict_stays_open_and_queues_changes_until_an_operator_resolves_it() {
    let mut held = content("manual");
    publish(&mut held, A, 1, "by claude");
    let conflicts = publish(&mut held, B, 2, "by cognee");
    assert_eq!(conflicts[0].outcome, Outcome::Open);
    publish(&mut held, A, 3, "by claude, later");
    assert_eq!(held.chunk().content, "by claude");
    let open: Vec<&str> = markers(&held).iter().map(|(key, _)| *key).collect();
    assert_eq!(open, ["conflict_detected", "conflict_timestamp", "conflicting_version"]);
    resolve(&mut held, "content", Some(&json!("by both of them")), 4);
    assert_eq!(held.chunk().content, "by both of them");
    assert_eq!(markers(&held), []);
    assert_eq!(publish(&mut held, A, 5, "by claude, once more"), [], "every writer is assumed to know the resolution");
    assert_eq!(held.chunk().content, "by claude, once more");
    assert_eq!(publish(&mut held, B, 6, "by cognee, once more")[0].outcome, Outcome::Open);
}

#[test]
fn the_change_that_closes_an_open_conflict_returns_its_part() {
    let mut held = content("manual");
    let mut publish = |writer: Writer, micros: i64, text: &str| {
        held.take(&update(writer, micros, &chunk(writer.as_str(), text, &[])))
    };
    assert_eq!(publish(A, 1, "by claude").decided, []);
    assert_eq!(publish(B, 2, "by cognee").decided, [], "the conflict is open from here on");
    assert_eq!(publish(A, 3, "by claude, later").decided, []);
    assert_eq!(publish(B, 4, "by claude, later").decided, [], "an echo sets nothing");
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let (now, part) = (Time::from_micros(2_000_000_000_000_000), Part::Content);
    let resolve = |value: &str, id: u128| {
        resolution(&record, &state, &part, Some(&json!(value)), now, Uuid::from_u128(id)).unwrap()
    };
    // A resolution to the value that is already shown counts, too.
    let event = resolve("by claude", 5);
    let change = Change::from(&event);
    assert_eq!(held.take(&change).decided, [Part::Content]);
    assert_eq!(held.take(&change).decided, [], "a repetition resolves nothing");
    let (event, mut plain) =
        (resolve("by another", 6), MergedChunk { strategies: Strategies::default(), ..held.clone() });
    assert_eq!(plain.take(&Change::from(&event)).decided, [Part::Content], "a resolution counts under every strategy");
    held.take(&update(B, now.micros() + 60_000_000, &chunk("cognee", "by cognee, again", &[])));
    let conflicts = held.take(&update(A, now.micros() + 61_000_000, &chunk("claude", "by claude, again", &[])));
    assert_eq!(conflicts.conflicts[0].outcome, Outcome::Open);
    assert_eq!(
        held.take(&delete(B, now.micros() + 62_000_000)).decided,
        [Part::Content],
        "the deleted chunk has no open conflict"
    );
}

#[test]
fn a_recorded_conflict_contains_each_value_once_and_survives_a_round_trip() {
    for strategy in ["last_write_wins", "target_wins", "manual", "merge_text"] {
        let mut held = content(strategy);
        publish(&mut held, A, 1, BASE);
        publish(&mut held, B, 2, BASE);
        publish(&mut held, A, 3, &BASE.replace("first", "1st"));
        let conflicts = publish(&mut held, B, 4, &BASE.replace("second", "2nd")).remove(0);
        let json = conflicts.to_json();
        assert_eq!(Conflict::from_json(&json).unwrap(), conflicts, "{strategy}");
        let texts = json.matches("fourth line").count();
        assert_eq!(texts, if conflicts.outcome == Outcome::Merged { 4 } else { 3 }, "{json}");
    }
    assert!(Conflict::from_json("{}").is_err());
}

#[test]
fn a_resolution_sets_one_part_and_supersedes_earlier_changes_only() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one"), ("other", "a")])));
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let title = "metadata.title".parse().unwrap();
    let event =
        resolution(&record, &state, &title, Some(&json!("resolved")), Time::from_micros(0), Uuid::max()).unwrap();
    held.take(&update(A, 2, &chunk("claude", "the content", &[("title", "one"), ("other", "b")])));
    held.take(&Change { time: Time::from_micros(3), ..Change::from(&event) });
    assert_eq!(held.metadata("title").as_deref(), Some("resolved"));
    assert_eq!(held.metadata("other").as_deref(), Some("b"), "changed after the operator read it");
    held.take(&update(A, 4, &chunk("claude", "the content", &[("title", "one"), ("other", "b")])));
    assert_eq!(held.metadata("title").as_deref(), Some("resolved"), "the view changes nothing");
    held.take(&update(A, 5, &chunk("claude", "the content", &[("title", "newer"), ("other", "b")])));
    assert_eq!(held.metadata("title").as_deref(), Some("newer"));
}

#[test]
fn an_operator_can_remove_a_part_and_restore_a_value_that_lost() {
    let mut held = MergedChunk::default();
    let with = |origin: &str, title: &str, entity: bool| {
        let mut chunk = chunk(origin, "the content", &[("title", title)]);
        let one = |id: &str| json!({"id": id, "type": "concept", "name": id, "confidence": 1.0});
        let tie = json!({"source_entity_id": "a", "target_entity_id": "b", "type": "calls", "confidence": 1.0});
        if entity {
            chunk.graph =
                serde_json::from_value(json!({"entities": [one("a"), one("b")], "relationships": [tie]})).unwrap();
        }
        chunk
    };
    held.take(&update(A, 1, &with("claude", "one", true)));
    held.take(&update(B, 2, &with("cognee", "two", false)));
    resolve(&mut held, "metadata.title", Some(&json!("one")), 3);
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
    resolve(&mut held, "graph.entities.a", None, 4);
    assert_eq!(held.chunk().graph.entities.len(), 1);
    assert!(held.chunk().graph.relationships.is_empty());
    resolve(&mut held, "metadata.title", None, 5);
    assert_eq!(held.metadata("title"), None);
}

#[test]
fn a_resolution_to_an_invalid_value_is_rejected() {
    let mut held = MergedChunk::default();
    publish(&mut held, A, 1, "the content");
    let (record, state) = (held.record.unwrap(), held.state.unwrap());
    let resolve = |part: &str, value: Option<Value>| {
        resolution(&record, &state, &part.parse().unwrap(), value.as_ref(), Time::from_micros(2), Uuid::max())
            .map_err(|e| e.to_string())
    };
    assert!(resolve("content", None).unwrap_err().contains("every chunk has one"));
    assert!(resolve("content", Some(json!(7))).unwrap_err().contains("the value is not valid for content"));
    assert!(resolve("existence", None).unwrap_err().contains("create and delete"));
    assert!(resolve("metadata.conflict_detected", Some(json!(true))).unwrap_err().contains("computed"));
    let other = json!({"id": "b", "type": "concept", "name": "b", "confidence": 1.0});
    assert!(resolve("graph.entities.a", Some(other)).unwrap_err().contains("another part"));
}

#[test]
fn a_single_part_can_have_its_own_strategy() {
    let strategies = Strategies::default().with_part("metadata.score_*", "target_wins").unwrap();
    let mut held = MergedChunk::under(strategies);
    held.take(&update(A, 1, &chunk("claude", "the content", &[("score_a", "1"), ("title", "1")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("score_a", "2"), ("title", "2")])));
    assert_eq!(held.metadata("score_a").as_deref(), Some("1"));
    assert_eq!(held.metadata("title").as_deref(), Some("2"));
}

#[test]
fn an_unknown_or_inapplicable_strategy_is_rejected_with_the_valid_ones() {
    let with = |kind, name: &str| Strategies::default().with(kind, name).unwrap_err().to_string();
    assert!(with(Kind::Content, "newest_wins").contains("last_write_wins"));
    assert!(with(Kind::Metadata, "merge_text").contains("`merge_text` is not a strategy for metadata"));
    assert!(with(Kind::Content, "keep_both").contains("merge_text"));
    assert!(with(Kind::Content, "prefer:unknown").contains("claude, cognee"));
    assert!(with(Kind::Content, "prefer:operator").contains("`prefer:operator` is not a writer"));
    let named = |name: &str| Strategies::default().with_part(name, "manual").unwrap_err();
    assert_eq!(named("existence"), StrategyError::Name("existence".into()));
    assert_eq!(named("nothing.like.it"), StrategyError::Name("nothing.like.it".into()));
    for name in ["last_write_wins", "source_wins", "target_wins", "prefer:claude", "merge_text", "manual"] {
        assert!(Strategies::default().with(Kind::Content, name).is_ok(), "{name}");
    }
}

#[test]
fn a_delete_still_discards_older_settings_after_many_creates() {
    let mut held = MergedChunk::default();
    held.take(&update(B, 1, &chunk("cognee", "the content", &[("topic", "old")])));
    held.take(&delete(A, 2));
    for micros in 3..40 {
        held.take(&view(A, micros, EventType::Create, &chunk("claude", "created again", &[])));
        assert_eq!(held.metadata("topic"), None);
    }
}

#[test]
fn a_hundred_changes_by_each_of_two_writers_give_the_same_state_in_either_order() {
    for strategy in ["last_write_wins", "target_wins", "manual", "merge_text", "prefer:cognee"] {
        let turns = |writer: Writer, offset: i64| {
            (0..100).map(move |i| (writer, 2 * i + offset, format!("{writer} wrote {i}")))
        };
        let (mut one, mut other) = (content(strategy), content(strategy));
        for (writer, micros, text) in turns(A, 1).chain(turns(B, 2)) {
            publish(&mut one, writer, micros, &text);
        }
        for (writer, micros, text) in turns(B, 2).chain(turns(A, 1)) {
            publish(&mut other, writer, micros, &text);
        }
        assert_eq!(one.state, other.state, "{strategy}");
    }
}
