//! Claims about conflicts: how each strategy ends them, what marks they leave, what their record says, and how a person
//! settles one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::hash::content_hash;
use chunk_sync_model::merge::{Change, Conflict, Kind, Outcome, Strategies, StrategyError, auto_type, resolution};
use chunk_sync_model::{Event, EventType, Part, Time, Writer};
use serde_json::{Value, json};
use uuid::Uuid;

use support::{Held, chunk, delete, update, view, with_dense};

const A: Writer = Writer::Claude;
const B: Writer = Writer::Cognee;
const BASE: &str = "first line\n\nsecond line\n\nthird line\n\nfourth line";

fn content(strategy: &str) -> Held {
    Held::under(Strategies::default().with(Kind::Content, strategy).unwrap())
}

fn says(held: &mut Held, writer: Writer, micros: i64, content: &str) -> Vec<Conflict> {
    held.take(&update(writer, micros, &chunk(writer.as_str(), content, &[]))).conflicts
}

fn decide(held: &mut Held, part: &str, value: Option<&Value>, now: i64) {
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let event =
        resolution(&record, &state, &part.parse().unwrap(), value, Time::from_micros(now), Uuid::max()).unwrap();
    // As it comes out of the bus.
    let event = Event::from_json(&event.to_json(), &chunk_sync_model::Limits::default()).unwrap();
    held.take(&Change { time: Time::from_micros(now), ..Change::from(&event) });
}

/// The marks of a content conflict that a chunk shows.
fn marks(held: &Held) -> Vec<(&str, String)> {
    let text = |value: &Value| value.as_str().map_or(value.to_string(), ToOwned::to_owned);
    held.chunk().metadata.extra.iter().map(|(key, value)| (key.as_str(), text(value))).collect()
}

fn decided(loser: &str, at: &str, strategy: &str) -> Vec<(&'static str, String)> {
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
fn a_content_conflict_marks_the_newer_with_the_hash_of_the_loser_whichever_came_first() {
    let (mut one, mut other) = (Held::default(), Held::default());
    says(&mut one, A, 1, "by claude");
    says(&mut one, B, 2, "by cognee");
    says(&mut other, B, 2, "by cognee");
    let conflicts = says(&mut other, A, 1, "by claude");
    assert_eq!(conflicts[0].outcome, Outcome::TargetKept);
    for held in [&one, &other] {
        assert_eq!(held.chunk().content, "by cognee");
        assert_eq!(marks(held), decided("by claude", "1970-01-01T00:00:00.000002Z", "last_write_wins"));
    }
    says(&mut one, B, 3, "by cognee again");
    assert_eq!(marks(&one), [], "its writer's own next update is no conflict");
}

#[test]
fn marks_are_nobodys_to_set_and_come_back_as_no_change() {
    let mut held = Held::default();
    says(&mut held, A, 1, "by claude");
    says(&mut held, B, 2, "by cognee");
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
fn equal_contents_are_no_conflict() {
    let mut held = Held::default();
    says(&mut held, A, 1, "the same text");
    assert_eq!(says(&mut held, B, 2, "the same text"), []);
    assert_eq!(marks(&held), []);
}

#[test]
fn the_record_of_a_conflict_has_four_sides_with_their_values() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "one")])));
    held.take(&update(A, 3, &chunk("claude", "the content", &[("title", "two")])));
    let met = held.take(&update(B, 4, &chunk("cognee", "the content", &[("title", "three")]))).conflicts;
    let [conflict] = met.as_slice() else { panic!("{met:?}") };
    assert_eq!((conflict.part.to_string().as_str(), conflict.kind), ("metadata.title", Kind::Metadata));
    assert_eq!((conflict.outcome, conflict.strategy.to_string().as_str()), (Outcome::SourceKept, "last_write_wins"));
    let sides = [&conflict.base, &conflict.source, &conflict.target, &conflict.result];
    let said = sides.map(|side| (side.writer.unwrap(), side.time.unwrap().micros(), side.value.clone().unwrap()));
    assert_eq!(said, [(A, 1, json!("one")), (B, 4, json!("three")), (A, 3, json!("two")), (B, 4, json!("three"))]);
    assert_eq!(auto_type(&met), "metadata");
    assert_eq!(auto_type(&[]), "none");
}

#[test]
fn a_conflict_is_named_after_the_first_kind_in_it() {
    let mut held = Held::default();
    let with = |origin: &str, content: &str, n: f32| with_dense(chunk(origin, content, &[("k", content)]), n);
    held.take(&update(A, 1, &with("claude", "by claude", 1.0)));
    let met = held.take(&update(B, 2, &with("cognee", "by cognee", 2.0))).conflicts;
    assert_eq!(met.len(), 3);
    assert_eq!(auto_type(&met), "content");
    assert_eq!(auto_type(&met[1..]), "embeddings");
    let vectors = met.iter().find(|conflict| conflict.kind == Kind::Embeddings).unwrap();
    assert_eq!(vectors.outcome, Outcome::BothKept);
}

#[test]
fn an_update_under_anothers_delete_is_recorded_with_what_it_said() {
    let mut held = Held::default();
    says(&mut held, A, 1, "the content");
    says(&mut held, B, 2, "the content");
    held.take(&delete(A, 3));
    let met = says(&mut held, B, 4, "still at work on it");
    let [conflict] = met.as_slice() else { panic!("{met:?}") };
    assert_eq!(conflict.outcome, Outcome::TargetKept);
    assert_eq!((conflict.target.writer, conflict.target.hash), (Some(A), None));
    assert_eq!(conflict.source.value, Some(json!("still at work on it")));
    assert_eq!(conflict.result.hash, None);
}

#[test]
fn to_create_anew_what_another_deleted_is_a_conflict_about_existence_alone() {
    let mut held = Held::default();
    says(&mut held, A, 1, "the content");
    says(&mut held, B, 2, "the content");
    held.take(&delete(A, 3));
    let met = held.take(&view(B, 4, EventType::Create, &chunk("cognee", "made anew", &[("k", "v")]))).conflicts;
    let [conflict] = met.as_slice() else { panic!("{met:?}") };
    assert_eq!((conflict.part.clone(), conflict.outcome), (Part::Existence, Outcome::SourceKept));
}

#[test]
fn under_target_wins_what_was_there_stays_until_somebody_who_knows_it_changes_it() {
    let mut held = content("target_wins");
    says(&mut held, A, 1, "by claude");
    assert_eq!(says(&mut held, B, 2, "by cognee")[0].outcome, Outcome::TargetKept);
    assert_eq!(held.chunk().content, "by claude");
    assert_eq!(marks(&held), decided("by cognee", "1970-01-01T00:00:00.000002Z", "target_wins"));
    says(&mut held, B, 3, "by claude");
    says(&mut held, B, 4, "by cognee, who read it");
    assert_eq!(held.chunk().content, "by cognee, who read it");
}

#[test]
fn the_preferred_writer_shows_while_it_has_a_value() {
    let strategies = Strategies::default().with(Kind::Metadata, "prefer:claude").unwrap();
    let mut held = Held::under(strategies);
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "by claude")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "by cognee")])));
    assert_eq!(held.metadata("title").as_deref(), Some("by claude"));
    held.take(&update(A, 3, &chunk("claude", "the content", &[])));
    assert_eq!(held.metadata("title"), None);
    held.take(&update(B, 4, &chunk("cognee", "the content", &[("title", "by cognee, later")])));
    assert_eq!(held.metadata("title").as_deref(), Some("by cognee, later"));
}

#[test]
fn a_preferred_value_comes_back_where_somebody_wrote_over_it_in_the_row() {
    let mut held = content("prefer:claude");
    says(&mut held, A, 1, "by claude");
    let mut row = held.chunk().clone();
    row.content = "by hand in the table".into();
    // What is held is the row as somebody left it.
    held.state = Some(std::sync::Arc::new(chunk_sync_model::State { chunk: row.clone(), embedding_stale: false }));
    held.take(&update(Writer::Postgres, 2, &row));
    assert_eq!(held.chunk().content, "by claude");
}

#[test]
fn a_vector_overwritten_in_the_row_takes_nothing_else_with_it() {
    let mut held = Held::default();
    held.take(&update(A, 1, &with_dense(chunk("claude", "the content", &[]), 1.0)));
    let row = with_dense(held.chunk().clone(), 2.0);
    held.state = Some(std::sync::Arc::new(chunk_sync_model::State { chunk: row.clone(), embedding_stale: false }));
    held.take(&update(Writer::Postgres, 2, &row));
    assert_eq!(held.chunk().embeddings.dense[0].vector[0], 2.0);
    assert_eq!(held.chunk().content, "the content");
}

#[test]
fn texts_are_merged_line_by_line() {
    let mut held = content("merge_text");
    says(&mut held, A, 1, BASE);
    says(&mut held, B, 2, BASE);
    says(&mut held, A, 3, &BASE.replace("first", "1st"));
    let met = says(&mut held, B, 4, &BASE.replace("fourth", "4th"));
    let both = BASE.replace("first", "1st").replace("fourth", "4th");
    assert_eq!(held.chunk().content, both);
    assert_eq!((met[0].outcome, met[0].result.value.clone()), (Outcome::Merged, Some(json!(both))));
    says(&mut held, A, 5, &BASE.replace("first", "1st").replace("second", "2nd"));
    assert_eq!(held.chunk().content, both.replace("second", "2nd"), "an own next update does not drop the other's");
    says(&mut held, B, 6, &BASE.replace("fourth", "4th").replace("second", "zweite"));
    assert_eq!(held.chunk().content, both.replace("second", "zweite"), "where they collide the last write wins");
}

#[test]
fn a_manual_conflict_waits_and_queues_until_an_operator_decides() {
    let mut held = content("manual");
    says(&mut held, A, 1, "by claude");
    let met = says(&mut held, B, 2, "by cognee");
    assert_eq!(met[0].outcome, Outcome::Open);
    says(&mut held, A, 3, "by claude, later");
    assert_eq!(held.chunk().content, "by claude");
    let open: Vec<&str> = marks(&held).iter().map(|(key, _)| *key).collect();
    assert_eq!(open, ["conflict_detected", "conflict_timestamp", "conflicting_version"]);
    decide(&mut held, "content", Some(&json!("by both of them")), 4);
    assert_eq!(held.chunk().content, "by both of them");
    assert_eq!(marks(&held), []);
    assert_eq!(says(&mut held, A, 5, "by claude, once more"), [], "every writer counts as having seen it");
    assert_eq!(held.chunk().content, "by claude, once more");
    assert_eq!(says(&mut held, B, 6, "by cognee, once more")[0].outcome, Outcome::Open);
}

#[test]
fn whoever_ends_an_open_conflict_is_told_that_it_did() {
    let mut held = content("manual");
    let mut says = |writer: Writer, micros: i64, text: &str| {
        held.take(&update(writer, micros, &chunk(writer.as_str(), text, &[])))
    };
    assert_eq!(says(A, 1, "by claude").decided, []);
    assert_eq!(says(B, 2, "by cognee").decided, [], "it is open from here on");
    assert_eq!(says(A, 3, "by claude, later").decided, []);
    assert_eq!(says(B, 4, "by claude, later").decided, [], "an echo sets nothing");
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let (now, part) = (Time::from_micros(2_000_000_000_000_000), Part::Content);
    let decision = |value: &str, id: u128| {
        resolution(&record, &state, &part, Some(&json!(value)), now, Uuid::from_u128(id)).unwrap()
    };
    // What shows is decided on as well.
    let event = decision("by claude", 5);
    let change = Change::from(&event);
    assert_eq!(held.take(&change).decided, [Part::Content]);
    assert_eq!(held.take(&change).decided, [], "the same again says nothing");
    let (event, mut plain) = (decision("by another", 6), Held { strategies: Strategies::default(), ..held.clone() });
    assert_eq!(plain.take(&Change::from(&event)).decided, [Part::Content], "whatever the strategy is by now");
    held.take(&update(B, now.micros() + 60_000_000, &chunk("cognee", "by cognee, again", &[])));
    let met = held.take(&update(A, now.micros() + 61_000_000, &chunk("claude", "by claude, again", &[])));
    assert_eq!(met.conflicts[0].outcome, Outcome::Open);
    assert_eq!(held.take(&delete(B, now.micros() + 62_000_000)).decided, [Part::Content], "there is nothing to decide");
}

#[test]
fn a_recorded_conflict_has_each_value_once_and_comes_back_whole() {
    for strategy in ["last_write_wins", "target_wins", "manual", "merge_text"] {
        let mut held = content(strategy);
        says(&mut held, A, 1, BASE);
        says(&mut held, B, 2, BASE);
        says(&mut held, A, 3, &BASE.replace("first", "1st"));
        let met = says(&mut held, B, 4, &BASE.replace("second", "2nd")).remove(0);
        let json = met.to_json();
        assert_eq!(Conflict::from_json(&json).unwrap(), met, "{strategy}");
        let texts = json.matches("fourth line").count();
        assert_eq!(texts, if met.outcome == Outcome::Merged { 4 } else { 3 }, "{json}");
    }
    assert!(Conflict::from_json("{}").is_err());
}

#[test]
fn an_operators_word_is_on_one_part_and_holds_against_what_was_said_before() {
    let mut held = Held::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one"), ("other", "a")])));
    let (record, state) = (held.record.clone().unwrap(), held.state.clone().unwrap());
    let title = "metadata.title".parse().unwrap();
    let event =
        resolution(&record, &state, &title, Some(&json!("decided")), Time::from_micros(0), Uuid::max()).unwrap();
    held.take(&update(A, 2, &chunk("claude", "the content", &[("title", "one"), ("other", "b")])));
    held.take(&Change { time: Time::from_micros(3), ..Change::from(&event) });
    assert_eq!(held.metadata("title").as_deref(), Some("decided"));
    assert_eq!(held.metadata("other").as_deref(), Some("b"), "changed since the operator looked");
    held.take(&update(A, 4, &chunk("claude", "the content", &[("title", "one"), ("other", "b")])));
    assert_eq!(held.metadata("title").as_deref(), Some("decided"), "it said nothing new");
    held.take(&update(A, 5, &chunk("claude", "the content", &[("title", "newer"), ("other", "b")])));
    assert_eq!(held.metadata("title").as_deref(), Some("newer"));
}

#[test]
fn an_operator_can_remove_and_go_back_to_what_lost() {
    let mut held = Held::default();
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
    decide(&mut held, "metadata.title", Some(&json!("one")), 3);
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
    decide(&mut held, "graph.entities.a", None, 4);
    assert_eq!(held.chunk().graph.entities.len(), 1);
    assert!(held.chunk().graph.relationships.is_empty());
    decide(&mut held, "metadata.title", None, 5);
    assert_eq!(held.metadata("title"), None);
}

#[test]
fn an_operator_cannot_decide_what_no_chunk_can_have() {
    let mut held = Held::default();
    says(&mut held, A, 1, "the content");
    let (record, state) = (held.record.unwrap(), held.state.unwrap());
    let decide = |part: &str, value: Option<Value>| {
        resolution(&record, &state, &part.parse().unwrap(), value.as_ref(), Time::from_micros(2), Uuid::max())
            .map_err(|e| e.to_string())
    };
    assert!(decide("content", None).unwrap_err().contains("every chunk has one"));
    assert!(decide("content", Some(json!(7))).unwrap_err().contains("no value of content"));
    assert!(decide("existence", None).unwrap_err().contains("create and delete"));
    assert!(decide("metadata.conflict_detected", Some(json!(true))).unwrap_err().contains("computed"));
    let other = json!({"id": "b", "type": "concept", "name": "b", "confidence": 1.0});
    assert!(decide("graph.entities.a", Some(other)).unwrap_err().contains("another part"));
}

#[test]
fn a_single_part_can_have_a_strategy_of_its_own() {
    let strategies = Strategies::default().with_part("metadata.score_*", "target_wins").unwrap();
    let mut held = Held::under(strategies);
    held.take(&update(A, 1, &chunk("claude", "the content", &[("score_a", "1"), ("title", "1")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("score_a", "2"), ("title", "2")])));
    assert_eq!(held.metadata("score_a").as_deref(), Some("1"));
    assert_eq!(held.metadata("title").as_deref(), Some("2"));
}

#[test]
fn a_strategy_that_is_none_or_unfit_is_refused_with_what_would_do() {
    let with = |kind, name: &str| Strategies::default().with(kind, name).unwrap_err().to_string();
    assert!(with(Kind::Content, "newest_wins").contains("last_write_wins"));
    assert!(with(Kind::Metadata, "merge_text").contains("`merge_text` is no strategy for metadata"));
    assert!(with(Kind::Content, "keep_both").contains("merge_text"));
    assert!(with(Kind::Content, "prefer:nobody").contains("claude, cognee"));
    assert!(with(Kind::Content, "prefer:operator").contains("names no writer"));
    let named = |name: &str| Strategies::default().with_part(name, "manual").unwrap_err();
    assert_eq!(named("existence"), StrategyError::Name("existence".into()));
    assert_eq!(named("nothing.like.it"), StrategyError::Name("nothing.like.it".into()));
    for name in ["last_write_wins", "source_wins", "target_wins", "prefer:claude", "merge_text", "manual"] {
        assert!(Strategies::default().with(Kind::Content, name).is_ok(), "{name}");
    }
}

#[test]
fn a_delete_is_remembered_however_often_the_chunk_was_created_since() {
    let mut held = Held::default();
    held.take(&update(B, 1, &chunk("cognee", "the content", &[("topic", "old")])));
    held.take(&delete(A, 2));
    for micros in 3..40 {
        held.take(&view(A, micros, EventType::Create, &chunk("claude", "made anew", &[])));
        assert_eq!(held.metadata("topic"), None);
    }
}

#[test]
fn what_two_writers_change_a_hundred_times_comes_to_the_same_in_either_order() {
    for strategy in ["last_write_wins", "target_wins", "manual", "merge_text", "prefer:cognee"] {
        let turns = |writer: Writer, offset: i64| {
            (0..100).map(move |i| (writer, 2 * i + offset, format!("{writer} wrote {i}")))
        };
        let (mut one, mut other) = (content(strategy), content(strategy));
        for (writer, micros, text) in turns(A, 1).chain(turns(B, 2)) {
            says(&mut one, writer, micros, &text);
        }
        for (writer, micros, text) in turns(B, 2).chain(turns(A, 1)) {
            says(&mut other, writer, micros, &text);
        }
        assert_eq!(one.state, other.state, "{strategy}");
    }
}
