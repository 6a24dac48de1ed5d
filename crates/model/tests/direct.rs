//! What others write into Qdrant and Neo4j: found where there is something, and nothing where there is nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use chunk_sync_model::document::{Document, GraphDocument, Mention, VectorDocument};
use chunk_sync_model::merge::{Direct, Found, Outcome, Strategies, Strategy};
use chunk_sync_model::{EmbeddingModel, Limits, Part, State, SyncVersion, Time, Writer};
use proptest::prelude::*;
use serde_json::{Value, json};

use support::Held;
use support::histories::{histories, order, play, strategies};

fn limits() -> Limits {
    let gte = EmbeddingModel { model: "gte".into(), vector: "dense_gte".into(), size: 1 };
    Limits { models: vec![gte], content_min_chars: 1, ..Limits::default() }
}

fn latest() -> Time {
    Time::from_micros(i64::MAX)
}

fn point(state: &State) -> VectorDocument {
    VectorDocument::of(state, &limits())
}

/// What is found where `document` stands under the version of the record.
fn found(held: &Held, state: &State, document: &Document) -> Option<Direct> {
    let record = held.record.as_ref().unwrap();
    let writer = if matches!(document, Document::Graph(_)) { Writer::Neo4j } else { Writer::Qdrant };
    Direct::of(
        record,
        state,
        Found { writer, version: record.version, document },
        (&held.strategies, &limits()),
        latest(),
    )
}

/// One that claude has made.
fn made() -> (Held, Arc<State>) {
    let mut chunk = support::with_dense(support::chunk("claude", "as it was written", &[("topic", "tea")]), 1.0);
    let entity = json!({ "id": "e", "type": "concept", "name": "tea", "confidence": 0.5, "source_positions": [3] });
    let other = json!({ "id": "f", "type": "concept", "name": "cup", "confidence": 0.5 });
    chunk.graph.entities = vec![serde_json::from_value(entity).unwrap(), serde_json::from_value(other).unwrap()];
    let relation = json!({ "source_entity_id": "e", "target_entity_id": "f", "type": "calls", "confidence": 0.5, "metadata": {"a": 1} });
    chunk.graph.relationships = vec![serde_json::from_value(relation).unwrap()];
    chunk.metadata.extra.insert("great".into(), json!(u64::MAX));
    let mut held = Held::default();
    held.take(&support::update(Writer::Claude, 1_000, &chunk));
    let state = held.state.clone().unwrap();
    (held, state)
}

/// The names of the parts in question, and what the chunk would be with them.
fn said(held: &Held, state: &State, document: &Document) -> (Vec<String>, Value) {
    let direct = found(held, state, document).expect("a direct write");
    let record = held.record.as_ref().unwrap();
    let view = direct.view(state, &limits()).expect("it keeps the rules");
    let conflicts = direct.conflicts(record, state, Some(state), |_| Strategy::TargetWins);
    let parts = conflicts.iter().map(|conflict| conflict.part.to_string()).collect();
    (parts, serde_json::to_value(view).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn documents_as_they_were_written_are_nobodys_words(
        histories in histories(4), order in order(), strategies in strategies(),
    ) {
        let held = play(&histories, &order, &strategies);
        if let Some(state) = held.state.clone() {
            prop_assert_eq!(found(&held, &state, &Document::Vectors(point(&state))), None);
            prop_assert_eq!(found(&held, &state, &Document::Graph(GraphDocument::of(&state))), None);
        }
    }

    /// A row that was written unseen: the stores were never told, and say nothing new.
    #[test]
    fn a_store_that_was_not_told_of_a_row_says_nothing(
        histories in histories(4), order in order(), strategies in strategies(), content in "[a-z]{1,20}", key in 0..6_u8,
    ) {
        let held = play(&histories, &order, &strategies);
        if let Some(told) = held.state.clone() {
            let mut row = State::clone(&told);
            row.chunk.content = content;
            row.chunk.summary = Some("of the row".into());
            row.chunk.source.path = Some("of the row".into());
            row.chunk.metadata.extra.insert(key.to_string(), "of the row".into());
            row.chunk.graph.entities.clear();
            row.chunk.graph.relationships.clear();
            row.chunk.embeddings.dense.clear();
            for document in [Document::Vectors(point(&told)), Document::Graph(GraphDocument::of(&told))] {
                prop_assert_eq!(found(&held, &row, &document), None);
            }
        }
    }
}

#[test]
fn each_field_of_a_point_changes_that_field_of_its_part() {
    let (held, state) = made();
    for (key, value, part, path) in [
        ("content", json!("what somebody wrote"), "content", "/content"),
        ("summary", json!("in short"), "summary", "/summary"),
        ("chunk_type", json!("code"), "chunk_type", "/chunk_type"),
        ("source_type", json!("web"), "source", "/source/type"),
        ("path", json!("a/b.rs"), "source", "/source/path"),
        ("cognee_dataset", json!("teas"), "organization", "/organization/cognee_dataset"),
        ("project_id", json!("00000000-0000-0000-0000-00000000000a"), "organization", "/organization/project_id"),
    ] {
        let mut document = point(&state);
        document.payload.insert(key.into(), value.clone());
        let (parts, view) = said(&held, &state, &Document::Vectors(document));
        assert_eq!(parts, [part], "{key}");
        let mut before = serde_json::to_value(&state.chunk).unwrap();
        assert_ne!(before.pointer(path), Some(&value), "{key}");
        let mut after = view;
        assert_eq!(after.pointer(path), Some(&value), "{key}");
        for json in [&mut before, &mut after] {
            let (parent, name) = path.rsplit_once('/').unwrap();
            json.pointer_mut(parent).and_then(Value::as_object_mut).unwrap().remove(name);
        }
        assert_eq!(before, after, "{key}: nothing else");
    }
}

#[test]
fn keys_of_metadata_are_told_one_by_one() {
    let (held, state) = made();
    let mut document = point(&state);
    // As a server gives it back: what is too great for its integers is a double.
    document.payload["metadata"]["great"] = json!(18_446_744_073_709_551_615.0);
    assert_eq!(found(&held, &state, &Document::Vectors(document.clone())), None);
    document.payload["metadata"]["topic"] = json!("coffee");
    document.payload["metadata"]["new"] = json!([1, { "a": null }]);
    let (parts, view) = said(&held, &state, &Document::Vectors(document.clone()));
    assert_eq!(parts, ["metadata.new", "metadata.topic"]);
    assert_eq!((&view["metadata"]["topic"], &view["metadata"]["great"]), (&json!("coffee"), &json!(u64::MAX)));
    document.payload["metadata"].as_object_mut().unwrap().remove("topic");
    let (parts, view) = said(&held, &state, &Document::Vectors(document));
    assert_eq!((parts, view["metadata"].get("topic")), (vec!["metadata.new".into(), "metadata.topic".into()], None));
}

#[test]
fn a_vector_is_told_and_one_that_is_absent_is_not() {
    let (held, state) = made();
    let mut document = point(&state);
    document.dense.insert("dense_gte".into(), vec![-1.0]);
    document.sparse = Some((vec![3], vec![0.5]));
    document.payload.insert("sparse_model".into(), json!("splade"));
    let document = Document::Vectors(document);
    let (parts, view) = said(&held, &state, &document);
    assert_eq!(parts, ["embeddings.dense.gte", "embeddings.sparse"]);
    assert_eq!(view["embeddings"]["sparse"]["model"], "splade");
    assert!(found(&held, &state, &document).unwrap().has_vectors());
    let mut document = point(&state);
    document.dense.clear();
    document.payload.remove("content");
    assert_eq!(found(&held, &state, &Document::Vectors(document)), None, "a loss is to be mended, and says nothing");
}

#[test]
fn the_graph_tells_of_entities_and_relations() {
    let (held, state) = made();
    let mut graph = GraphDocument::of(&state);
    graph.entities.get_mut("e").unwrap().confidence = 0.9;
    graph.relations[0].confidence = 0.25;
    let new = Mention { name: "pot".into(), kind: "concept".into(), confidence: 1.0, positions: vec![] };
    graph.entities.insert("g".into(), new);
    let (parts, view) = said(&held, &state, &Document::Graph(graph.clone()));
    assert_eq!(parts, ["graph.entities.e", "graph.entities.g", "graph.relationships.calls.[\"e\",\"f\"]"]);
    assert_eq!(view["graph"]["relationships"][0]["metadata"], json!({"a": 1}), "which the graph cannot hold");
    graph.entities.remove("f");
    graph.relations.clear();
    let (_, view) = said(&held, &state, &Document::Graph(graph));
    assert_eq!(view["graph"]["entities"].as_array().unwrap().len(), 2);
    assert_eq!(view["graph"].get("relationships"), None);
}

#[test]
fn what_no_chunk_can_say_is_no_word() {
    let (held, state) = made();
    let mut graph = GraphDocument::of(&state);
    graph.content_hash = "another".into();
    graph.chunk_type = "nonsense".into();
    graph.entities.get_mut("e").unwrap().confidence = f64::NAN;
    graph.entities.get_mut("f").unwrap().name = "with \0".into();
    assert_eq!(found(&held, &state, &Document::Graph(graph)), None);
    let mut document = point(&state);
    document.payload.insert("content".into(), json!({ "no": "text" }));
    document.payload.insert("project_id".into(), json!("no id"));
    document.payload.insert("system_origin".into(), json!("cognee"));
    document.payload.insert("embedding_stale".into(), json!(true));
    assert_eq!(found(&held, &state, &Document::Vectors(document)), None);
}

#[test]
fn a_store_of_another_version_has_no_opinion() {
    let (held, state) = made();
    let mut document = point(&state);
    document.payload.insert("content".into(), json!("what somebody wrote"));
    let (record, document) = (held.record.as_ref().unwrap(), Document::Vectors(document));
    let of = |version| {
        let found = Found { writer: Writer::Qdrant, version, document: &document };
        Direct::of(record, &state, found, (&held.strategies, &limits()), latest())
    };
    assert!(of(record.version).is_some());
    assert_eq!(of(SyncVersion::new(record.version.get() - 1)), None, "it is behind");
    assert_eq!(of(SyncVersion::new(record.version.get() + 1)), None, "it is ahead of a restored row");
}

#[test]
fn a_time_counts_where_it_moved_and_can_be_believed() {
    let (held, state) = made();
    let record = held.record.as_ref().unwrap();
    let after = Time::from_micros(record.version.signed() + 1);
    for (updated_at, latest, expected) in [
        ("2026-02-01T00:00:00Z", latest(), "2026-02-01T00:00:00Z".parse().unwrap()),
        ("2026-02-01T00:00:00Z", Time::from_micros(0), after),
        ("2025-01-01T00:00:00Z", latest(), after),
        ("yesterday", latest(), after),
    ] {
        let mut document = point(&state);
        document.payload.insert("content".into(), json!("what somebody wrote"));
        document.payload.insert("updated_at".into(), json!(updated_at));
        let document = Document::Vectors(document);
        let found = Found { writer: Writer::Qdrant, version: record.version, document: &document };
        let direct = Direct::of(record, &state, found, (&held.strategies, &limits()), latest).unwrap();
        assert_eq!(direct.time, expected, "{updated_at}");
    }
}

#[test]
fn all_of_it_is_on_record_unless_it_shows_and_nobody_else_wrote() {
    let (held, state) = made();
    let record = held.record.as_ref().unwrap();
    let mut document = point(&state);
    document.payload.insert("content".into(), json!("what somebody wrote"));
    let direct = found(&held, &state, &Document::Vectors(document)).unwrap();
    let view = State { chunk: direct.view(&state, &limits()).unwrap(), ..State::clone(&state) };
    let of = |before: &State, after: &State| {
        direct.conflicts(record, before, Some(after), |part| Strategies::default().of(part))
    };
    assert_eq!(of(&state, &view), [], "a change like any other");
    let kept = of(&state, &state);
    assert_eq!((kept[0].outcome, kept[0].part.clone()), (Outcome::TargetKept, Part::Content));
    assert_eq!(kept[0].source.value, Some("what somebody wrote".into()));
    assert_eq!((kept[0].source.writer, kept[0].target.writer), (Some(Writer::Qdrant), Some(Writer::Claude)));
    assert_eq!(kept[0].target.value, Some("as it was written".into()));
    let mut row = State::clone(&state);
    row.chunk.content = "what was written into the row".into();
    assert_eq!(of(&row, &view)[0].outcome, Outcome::SourceKept, "somebody else wrote over the same");
}
