//! Tests the detection of direct writes into Qdrant and Neo4j: each is found, and nothing else is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use chunk_sync_model::document::{Document, GraphDocument, Mention, VectorDocument, round_numbers};
use chunk_sync_model::merge::{Direct, Found, Outcome, Strategies, Strategy};
use chunk_sync_model::{EmbeddingModel, Limits, Part, State, SyncVersion, Time, Writer};
use proptest::prelude::*;
use serde_json::{Value, json};

use support::MergedChunk;
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

/// The direct write found in `document`, held under the version of the record.
fn found(held: &MergedChunk, state: &State, document: &Document) -> Option<Direct> {
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

/// A chunk created by claude.
fn created() -> (MergedChunk, Arc<State>) {
    let mut chunk = support::with_dense(support::chunk("claude", "as it was written", &[("topic", "tea")]), 1.0);
    let entity = json!({ "id": "e", "type": "concept", "name": "tea", "confidence": 0.5, "source_positions": [3] });
    let other = json!({ "id": "f", "type": "concept", "name": "cup", "confidence": 0.5 });
    chunk.graph.entities = vec![serde_json::from_value(entity).unwrap(), serde_json::from_value(other).unwrap()];
    let relation = json!({ "source_entity_id": "e", "target_entity_id": "f", "type": "calls", "confidence": 0.5, "metadata": {"a": 1} });
    chunk.graph.relationships = vec![serde_json::from_value(relation).unwrap()];
    chunk.metadata.extra.insert("great".into(), json!(u64::MAX));
    let mut held = MergedChunk::default();
    held.take(&support::update(Writer::Claude, 1_000, &chunk));
    let state = held.state.clone().unwrap();
    (held, state)
}

/// The names of the directly written parts, and the chunk with them.
fn detected(held: &MergedChunk, state: &State, document: &Document) -> (Vec<String>, Value) {
    let direct = found(held, state, document).expect("a direct write");
    let record = held.record.as_ref().unwrap();
    let view = direct.view(state, &limits()).expect("a valid chunk");
    let conflicts = direct.conflicts(record, state, Some(state), |_| Strategy::TargetWins);
    let parts = conflicts.iter().map(|conflict| conflict.part.to_string()).collect();
    (parts, serde_json::to_value(view).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn an_unchanged_document_is_no_direct_write(
        histories in histories(4), order in order(), strategies in strategies(),
    ) {
        let held = play(&histories, &order, &strategies);
        if let Some(state) = held.state.clone() {
            prop_assert_eq!(found(&held, &state, &Document::Vectors(point(&state))), None);
            prop_assert_eq!(found(&held, &state, &Document::Graph(GraphDocument::of(&state))), None);
        }
    }

    /// The row was changed directly and the stores have not received the change: their documents are no direct writes.
    #[test]
    fn a_store_that_lags_behind_the_row_is_no_direct_write(
        histories in histories(4), order in order(), strategies in strategies(), content in "[a-z]{1,20}", key in 0..6_u8,
    ) {
        let held = play(&histories, &order, &strategies);
        if let Some(written) = held.state.clone() {
            let mut row = State::clone(&written);
            row.chunk.content = content;
            row.chunk.summary = Some("of the row".into());
            row.chunk.source.path = Some("of the row".into());
            row.chunk.metadata.extra.insert(key.to_string(), "of the row".into());
            row.chunk.graph.entities.clear();
            row.chunk.graph.relationships.clear();
            row.chunk.embeddings.dense.clear();
            for document in [Document::Vectors(point(&written)), Document::Graph(GraphDocument::of(&written))] {
                prop_assert_eq!(found(&held, &row, &document), None);
            }
        }
    }
}

#[test]
fn each_field_of_a_point_changes_only_that_field_of_the_chunk() {
    let (held, state) = created();
    for (key, value, part, path) in [
        ("content", json!("a direct write"), "content", "/content"),
        ("summary", json!("in short"), "summary", "/summary"),
        ("chunk_type", json!("code"), "chunk_type", "/chunk_type"),
        ("source_type", json!("web"), "source", "/source/type"),
        ("path", json!("a/b.rs"), "source", "/source/path"),
        ("cognee_dataset", json!("teas"), "organization", "/organization/cognee_dataset"),
        ("project_id", json!("00000000-0000-0000-0000-00000000000a"), "organization", "/organization/project_id"),
    ] {
        let mut document = point(&state);
        document.payload.insert(key.into(), value.clone());
        let (parts, view) = detected(&held, &state, &Document::Vectors(document));
        assert_eq!(parts, [part], "{key}");
        let mut before = serde_json::to_value(&state.chunk).unwrap();
        assert_ne!(before.pointer(path), Some(&value), "{key}");
        let mut after = view;
        assert_eq!(after.pointer(path), Some(&value), "{key}");
        for json in [&mut before, &mut after] {
            let (parent, name) = path.rsplit_once('/').unwrap();
            json.pointer_mut(parent).and_then(Value::as_object_mut).unwrap().remove(name);
        }
        assert_eq!(before, after, "{key}: another field changed");
    }
}

#[test]
fn keys_of_metadata_are_detected_individually() {
    let (held, state) = created();
    let mut document = point(&state);
    // A server returns a number that exceeds its integers as a double, and its connector rounds what it reads.
    document.payload["metadata"]["great"] = json!(18_446_744_073_709_551_615.0);
    round_numbers(&mut document.payload["metadata"]);
    assert_eq!(found(&held, &state, &Document::Vectors(document.clone())), None);
    document.payload["metadata"]["topic"] = json!("coffee");
    document.payload["metadata"]["new"] = json!([1, { "a": null }]);
    let (parts, view) = detected(&held, &state, &Document::Vectors(document.clone()));
    assert_eq!(parts, ["metadata.new", "metadata.topic"]);
    assert_eq!((&view["metadata"]["topic"], &view["metadata"]["great"]), (&json!("coffee"), &json!(u64::MAX)));
    document.payload["metadata"].as_object_mut().unwrap().remove("topic");
    let (parts, view) = detected(&held, &state, &Document::Vectors(document));
    assert_eq!((parts, view["metadata"].get("topic")), (vec!["metadata.new".into(), "metadata.topic".into()], None));
}

#[test]
fn a_changed_vector_is_detected_and_a_missing_one_is_not() {
    let (held, state) = created();
    let mut document = point(&state);
    document.dense.insert("dense_gte".into(), vec![-1.0]);
    document.sparse = Some((vec![3], vec![0.5]));
    document.payload.insert("sparse_model".into(), json!("splade"));
    let document = Document::Vectors(document);
    let (parts, view) = detected(&held, &state, &document);
    assert_eq!(parts, ["embeddings.dense.gte", "embeddings.sparse"]);
    assert_eq!(view["embeddings"]["sparse"]["model"], "splade");
    assert!(found(&held, &state, &document).unwrap().has_vectors());
    let mut document = point(&state);
    document.dense.clear();
    document.payload.remove("content");
    assert_eq!(
        found(&held, &state, &Document::Vectors(document)),
        None,
        "a missing field is a loss to repair, not a direct write"
    );
}

#[test]
fn changed_entities_and_relations_are_detected() {
    let (held, state) = created();
    let mut graph = GraphDocument::of(&state);
    graph.entities.get_mut("e").unwrap().confidence = 0.9;
    graph.relations[0].confidence = 0.25;
    let new = Mention { name: "pot".into(), kind: "concept".into(), confidence: 1.0, positions: vec![] };
    graph.entities.insert("g".into(), new);
    let (parts, view) = detected(&held, &state, &Document::Graph(graph.clone()));
    assert_eq!(parts, ["graph.entities.e", "graph.entities.g", "graph.relationships.calls.[\"e\",\"f\"]"]);
    assert_eq!(
        view["graph"]["relationships"][0]["metadata"],
        json!({"a": 1}),
        "the graph does not hold it, so it is kept"
    );
    graph.entities.remove("f");
    graph.relations.clear();
    let (_, view) = detected(&held, &state, &Document::Graph(graph));
    assert_eq!(view["graph"]["entities"].as_array().unwrap().len(), 2);
    assert_eq!(view["graph"].get("relationships"), None);
}

#[test]
fn values_that_no_chunk_can_have_are_ignored() {
    let (held, state) = created();
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
fn a_store_with_another_version_than_the_record_is_ignored() {
    let (held, state) = created();
    let mut document = point(&state);
    document.payload.insert("content".into(), json!("a direct write"));
    let (record, document) = (held.record.as_ref().unwrap(), Document::Vectors(document));
    let of = |version| {
        let found = Found { writer: Writer::Qdrant, version, document: &document };
        Direct::of(record, &state, found, (&held.strategies, &limits()), latest())
    };
    assert!(of(record.version).is_some());
    assert_eq!(of(SyncVersion::new(record.version.get() - 1)), None, "the store is behind");
    assert_eq!(of(SyncVersion::new(record.version.get() + 1)), None, "the store is ahead of a restored row");
}

#[test]
fn the_time_of_the_store_is_used_if_it_advanced_and_is_not_too_late() {
    let (held, state) = created();
    let record = held.record.as_ref().unwrap();
    let after = Time::from_micros(record.version.signed() + 1);
    for (updated_at, latest, expected) in [
        ("2026-02-01T00:00:00Z", latest(), "2026-02-01T00:00:00Z".parse().unwrap()),
        ("2026-02-01T00:00:00Z", Time::from_micros(0), after),
        ("2025-01-01T00:00:00Z", latest(), after),
        ("yesterday", latest(), after),
    ] {
        let mut document = point(&state);
        document.payload.insert("content".into(), json!("a direct write"));
        document.payload.insert("updated_at".into(), json!(updated_at));
        let document = Document::Vectors(document);
        let found = Found { writer: Writer::Qdrant, version: record.version, document: &document };
        let direct = Direct::of(record, &state, found, (&held.strategies, &limits()), latest).unwrap();
        assert_eq!(direct.time, expected, "{updated_at}");
    }
}

#[test]
fn a_direct_write_is_recorded_unless_it_is_shown_and_no_other_writer_changed_the_part() {
    let (held, state) = created();
    let record = held.record.as_ref().unwrap();
    let mut document = point(&state);
    document.payload.insert("content".into(), json!("a direct write"));
    let direct = found(&held, &state, &Document::Vectors(document)).unwrap();
    let view = State { chunk: direct.view(&state, &limits()).unwrap(), ..State::clone(&state) };
    let of = |before: &State, after: &State| {
        direct.conflicts(record, before, Some(after), |part| Strategies::default().of(part))
    };
    assert_eq!(of(&state, &view), [], "a change without conflict");
    let kept = of(&state, &state);
    assert_eq!((kept[0].outcome, kept[0].part.clone()), (Outcome::TargetKept, Part::Content));
    assert_eq!(kept[0].source.value, Some("a direct write".into()));
    assert_eq!((kept[0].source.writer, kept[0].target.writer), (Some(Writer::Qdrant), Some(Writer::Claude)));
    assert_eq!(kept[0].target.value, Some("as it was written".into()));
    let mut row = State::clone(&state);
    row.chunk.content = "what was written into the row".into();
    assert_eq!(of(&row, &view)[0].outcome, Outcome::SourceKept, "another writer changed the same part");
}
