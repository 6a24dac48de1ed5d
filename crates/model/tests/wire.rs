//! Tests the wire forms: what is accepted, what is rejected and with which field, and that nothing is lost in a round
//! trip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chunk_sync_model::chunk::State;
use chunk_sync_model::document::{GraphDocument, VectorDocument, row_fingerprint};
use chunk_sync_model::{Cause, Channel, Chunk, Event, Limits, PartPattern, Time, Writer};
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "id": "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a10", "system_origin": "claude", "content": "fn tide() -> f64 { 1.5 }",
        "summary": "the tide", "chunk_type": "code",
        "embeddings": {
            "dense": {"model": "gte", "vector": vec![0.25_f32; 768], "timestamp": "2026-01-01T00:00:00Z"},
            "sparse": {"model": "splade", "indices": [7, 3], "values": [0.5, 0.25], "timestamp": "2026-01-01T00:00:00Z"},
        },
        "source": {"type": "github", "repo": "a/b", "path": "src/tide.rs", "branch": "main", "commit": "abc", "url": "https://a/b"},
        "location": {"start_line": 1, "end_line": 2, "start_char": 0, "end_char": 24, "chunk_index": 0},
        "code_metadata": {"language": "rust", "is_code": true, "confidence": 0.9, "symbols": ["tide"], "imports": [], "ast_features": {"fns": 1}},
        "graph": {
            "node_id": "n1",
            "entities": [
                {"id": "f", "type": "function", "name": "tide", "confidence": 1.0, "source_positions": [3]},
                {"id": "c", "type": "concept", "name": "tides", "confidence": 0.5, "source_positions": []},
            ],
            "relationships": [{"source_entity_id": "f", "target_entity_id": "c", "type": "references", "confidence": 0.4, "metadata": {"by": "hand"}}],
        },
        "organization": {"project_id": "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a11", "cognee_dataset": "docs", "scope": "project"},
        "metadata": {
            "created_at": "2026-01-01T00:00:00.123456789+02:00", "updated_at": "2026-01-02T00:00:00Z", "quality_score": 0.5,
            "processing_time_ms": 12, "indexed_at": "2026-01-02T00:00:00Z", "author": {"name": "Ann"}, "n": 1e16, "z": -0.0,
        },
    })
}

fn read(json: &Value) -> Result<Event, (String, String)> {
    Event::from_json(&json.to_string(), &Limits::default()).map_err(|e| (e.field, e.message))
}

/// A valid event in which one field has another value.
fn event(field: &str, value: Value) -> Value {
    let mut event = json!({"event_id": "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a12", "type": "update", "source": "cognee",
        "targets": ["qdrant"], "chunk": good(), "timestamp": "2026-01-01T00:00:00Z"});
    event[field] = value;
    event
}

fn chunk(event: &Event) -> &Chunk {
    match &event.body {
        chunk_sync_model::Body::Chunk(chunk) => chunk,
        chunk_sync_model::Body::Id(_) => panic!("the event carries an id only"),
    }
}

#[test]
fn a_bare_chunk_stands_for_an_update_by_its_origin_to_every_store() {
    let event = read(&good()).unwrap();
    assert_eq!(event.kind.as_str(), "update");
    assert_eq!(event.writer, Writer::Claude);
    assert_eq!(event.targets.len(), 3);
    assert_eq!(event.timestamp, "2026-01-02T00:00:00Z".parse().unwrap());
    assert_eq!(event.event_id, read(&good()).unwrap().event_id, "the same chunk sent twice gives the same event");
    let mut other = good();
    other["content"] = "fn tide() -> f64 { 2.5 }".into();
    assert_ne!(event.event_id, read(&other).unwrap().event_id);
}

#[test]
fn an_event_survives_json_and_stream_fields_unchanged() {
    let mut event = read(&good()).unwrap();
    event.unchanged = vec!["metadata.a.b".parse().unwrap(), "embeddings.dense".parse().unwrap()];
    event.set = vec![r#"graph.relationships.calls.["a.b","c\"d"]"#.parse().unwrap()];
    event.position = Some("0/16B3748".into());
    event.retry_count = 3;
    assert_eq!(Event::from_json(&event.to_json(), &Limits::default()).unwrap(), event);
    let fields: Vec<_> = event.to_fields().into_iter().map(|(k, v)| (k.as_bytes().to_vec(), v.into_bytes())).collect();
    assert_eq!(Event::from_fields(&fields, &Limits::default()).unwrap(), event);
}

#[test]
fn times_are_truncated_to_microseconds_and_numbers_are_in_canonical_form() {
    let event = read(&good()).unwrap();
    let chunk = chunk(&event);
    assert_eq!(chunk.metadata.created_at.to_string(), "2025-12-31T22:00:00.123456Z");
    assert_eq!(chunk.metadata.extra["n"].to_string(), "10000000000000000");
    assert_eq!(chunk.metadata.extra["z"].to_string(), "0.0");
    assert_eq!(chunk.embeddings.sparse.as_ref().unwrap().indices, [3, 7], "ascending");
}

#[test]
fn base64_and_numbers_are_the_same_vector() {
    let mut encoded = good();
    let plain = read(&good()).unwrap();
    let text = serde_json::to_value(chunk(&plain)).unwrap()["embeddings"]["dense"]["vector_b64"].clone();
    encoded["embeddings"]["dense"] = json!({"model": "gte", "vector_b64": text, "timestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(chunk(&read(&encoded).unwrap()).embeddings, chunk(&plain).embeddings);
}

#[test]
fn several_models_give_an_array_with_one_vector_each() {
    let mut two = good();
    let dense =
        |model: &str| json!({"model": model, "vector": vec![0.5_f32; 768], "timestamp": "2026-01-01T00:00:00Z"});
    two["embeddings"]["dense"] = json!([dense("gte"), dense("coderank")]);
    assert_eq!(chunk(&read(&two).unwrap()).embeddings.dense[0].model, "coderank");
    two["embeddings"]["dense"] = json!([dense("gte"), dense("gte")]);
    assert_eq!(read(&two).unwrap_err().0, "chunk.embeddings.dense[1]");
}

#[test]
fn conflict_markers_are_computed_and_dropped_on_input() {
    let mut marked = good();
    marked["metadata"]["conflict_detected"] = true.into();
    marked["embeddings"]["conflict_resolution"] = "keep_both".into();
    assert_eq!(chunk(&read(&marked).unwrap()), chunk(&read(&good()).unwrap()));
}

#[test]
fn a_delete_needs_only_the_id() {
    let event = json!({"event_id": "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a12", "type": "delete", "source": "cognee",
        "targets": ["qdrant"], "chunk": {"id": "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a10"}, "timestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(read(&event).unwrap().chunk_id().to_string(), "7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a10");
}

/// The good chunk with `value` at a JSON pointer; a trailing `!` in the pointer removes the field.
fn broken(pointer: &str, value: Value) -> Value {
    let mut chunk = good();
    if let Some(pointer) = pointer.strip_suffix('!') {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut chunk } else { chunk.pointer_mut(parent).unwrap() };
        parent.as_object_mut().unwrap().remove(key);
    } else {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut chunk } else { chunk.pointer_mut(parent).unwrap() };
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value,
            Err(_) => parent[key] = value,
        }
    }
    chunk
}

#[test]
fn every_kind_of_bad_chunk_is_rejected_with_its_field() {
    let cases = [
        ("/id!", Value::Null, "chunk.id"),
        ("/id", json!("no-uuid"), "chunk.id"),
        ("/system_origin", json!("gpt"), "chunk.system_origin"),
        ("/content", json!("too short"), "chunk.content"),
        ("/content", json!("x".repeat(50 * 1024 + 1)), "chunk.content"),
        ("/content", json!("with a \u{0} in it"), "chunk.content"),
        ("/chunk_type", json!("poem"), "chunk.chunk_type"),
        ("/colour", json!("blue"), "chunk.colour"),
        ("/embeddings/dense/model", json!("word2vec"), "chunk.embeddings.dense.model"),
        ("/embeddings/dense/vector", json!([1.0, 2.0]), "chunk.embeddings.dense.vector"),
        ("/embeddings/dense/vector/5", json!(1e39), "chunk.embeddings.dense.vector[5]"),
        ("/embeddings/dense/timestamp!", Value::Null, "chunk.embeddings.dense.timestamp"),
        ("/embeddings/sparse/indices", json!([3, 3]), "chunk.embeddings.sparse.indices"),
        ("/embeddings/sparse/indices", json!([3, 30522]), "chunk.embeddings.sparse.indices"),
        ("/embeddings/sparse/values", json!([0.5]), "chunk.embeddings.sparse.values"),
        ("/source!", Value::Null, "chunk.source"),
        ("/source/type", json!("ftp"), "chunk.source.type"),
        ("/source/line", json!(3), "chunk.source.line"),
        ("/location/end_char", json!(-1), "chunk.location.end_char"),
        ("/location/start_char", json!(25), "chunk.location.end_char"),
        ("/location/start_line", json!(3), "chunk.location.end_line"),
        ("/code_metadata/confidence", json!(1.5), "chunk.code_metadata.confidence"),
        ("/graph/entities/0/id", json!(""), "chunk.graph.entities[0].id"),
        ("/graph/entities/0/id", json!("x".repeat(513)), "chunk.graph.entities[0].id"),
        ("/graph/entities/0/id", json!("c"), "chunk.graph.entities[1].id"),
        ("/graph/entities/0/type", json!("animal"), "chunk.graph.entities[0].type"),
        ("/graph/entities/0/name", json!("a\u{0}b"), "chunk.graph"),
        ("/graph/relationships/0/type", json!("LOVES"), "chunk.graph.relationships[0].type"),
        ("/graph/relationships/0/target_entity_id", json!("unknown"), "chunk.graph.relationships[0].target_entity_id"),
        ("/organization/project_id", json!("p1"), "chunk.organization.project_id"),
        ("/organization/scope", json!("galaxy"), "chunk.organization.scope"),
        ("/metadata/created_at!", Value::Null, "chunk.metadata.created_at"),
        ("/metadata/updated_at", json!("yesterday"), "chunk.metadata.updated_at"),
        ("/metadata/updated_at", json!("2020-01-01T00:00:00Z"), "chunk.metadata.updated_at"),
        ("/metadata/_chunk", json!({}), "chunk.metadata._chunk"),
        ("/metadata/quality_score", json!("good"), "chunk.metadata.quality_score"),
        ("/metadata/author", json!("a\u{0}"), "chunk.metadata"),
    ];
    for (pointer, value, field) in cases {
        let (found, message) = read(&broken(pointer, value)).expect_err(pointer);
        assert_eq!(found, field, "{pointer}: {message}");
        assert!(!message.is_empty());
    }
}

#[test]
fn an_array_is_no_object_though_it_has_the_values_of_the_fields() {
    let time = "2026-01-01T00:00:00Z";
    for (pointer, value) in [
        ("/embeddings", json!([[], null, null, null, null, null])),
        ("/embeddings/dense", json!([["gte", vec![0.25_f32; 768], null, time]])),
        ("/embeddings/sparse", json!(["splade", [7], [0.5], time])),
        ("/source", json!(["api", null, null, null, null, null])),
        ("/location", json!([1, 2, 0, 24, 0])),
        ("/code_metadata", json!(["rust", true, 0.9, null, null, null])),
        ("/graph", json!([null, [], []])),
        ("/graph/entities", json!([["f", "function", "tide", 1.0, [3]]])),
        ("/graph/relationships/0", json!(["f", "c", "references", 0.4, null])),
        ("/organization", json!([null, null, null, null])),
    ] {
        let (_, message) = read(&broken(pointer, value)).unwrap_err();
        assert!(message.contains("expected an object"), "{pointer}: {message}");
    }
    let mut delete = event("type", "delete".into());
    delete["chunk"] = json!(["7d0a4f6e-94f7-4a53-9c61-2f1b0a3f9a10"]);
    assert_eq!(read(&delete).unwrap_err().0, "chunk");
}

#[test]
fn every_kind_of_bad_event_is_rejected_with_its_field() {
    let cases = [
        ("event_id", json!("7")),
        ("type", json!("upsert")),
        ("source", json!("postgres")),
        ("targets", json!([])),
        ("targets", json!(["qdrant", "qdrant"])),
        ("timestamp", json!("now")),
        ("writer", json!("me")),
        ("retry_count", json!(-1)),
    ];
    for (field, value) in cases {
        assert_eq!(read(&event(field, value.clone())).unwrap_err().0, field, "{value}");
    }
    assert_eq!(read(&event("targets", json!(["redis"]))).unwrap_err().0, "targets[0]");
    assert_eq!(read(&event("unchanged", json!(["contents"]))).unwrap_err().0, "unchanged[0]");
    assert_eq!(Event::from_json("[1]", &Limits::default()).unwrap_err().field, "event");
    assert_eq!(Event::from_json("{\"chunk\": 1, ", &Limits::default()).unwrap_err().field, "event");
    let ahead = read(&event("timestamp", json!("2026-01-01T00:10:00Z"))).unwrap();
    let mut early = good();
    early["metadata"]["updated_at"] = "2025-12-31T23:00:00Z".into();
    assert_eq!(ahead.check_clock("2026-01-02T00:00:00Z".parse().unwrap(), &Limits::default()), Ok(()));
    let now: Time = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(ahead.check_clock(now, &Limits::default()).unwrap_err().field, "chunk.metadata.updated_at");
    let ahead = read(&event("timestamp", json!("2026-01-03T00:10:00Z"))).unwrap();
    assert_eq!(ahead.check_clock(now, &Limits::default()).unwrap_err().field, "timestamp");
}

#[test]
fn each_channel_admits_its_writers_only() {
    let by = |writer: &str, kind: &str, set: serde_json::Value| {
        let mut event = event("writer", writer.into());
        (event["type"], event["set"]) = (kind.into(), set);
        read(&event).unwrap()
    };
    let none = json!([]);
    for writer in ["claude", "cognee", "hybrid"] {
        for channel in [Channel::Publisher, Channel::Bus] {
            assert_eq!(by(writer, "update", none.clone()).check_writer(channel), Ok(()), "{writer} {channel:?}");
        }
    }
    for writer in ["postgres", "qdrant", "neo4j", "operator"] {
        let field = by(writer, "update", json!(["content"])).check_writer(Channel::Publisher).unwrap_err().field;
        assert_eq!(field, "writer", "{writer}");
    }
    for writer in ["qdrant", "neo4j"] {
        assert_eq!(by(writer, "update", none.clone()).check_writer(Channel::Bus).unwrap_err().field, "writer");
    }
    assert_eq!(by("postgres", "update", none.clone()).check_writer(Channel::Bus), Ok(()));
    let decision = |kind, set| by("operator", kind, set).check_writer(Channel::Bus).map_err(|invalid| invalid.field);
    assert_eq!(decision("update", json!(["content", "metadata.team"])), Ok(()));
    assert_eq!(decision("delete", json!(["content"])), Err("type".into()));
    assert_eq!(decision("update", none), Err("set".into()));
    assert_eq!(decision("update", json!(["content", "existence"])), Err("set[1]".into()));
    assert_eq!(decision("update", json!(["metadata"])), Err("set[0]".into()), "a group is no part");
    assert_eq!(decision("update", json!(["metadata.conflict_detected"])), Err("set[0]".into()));
}

#[test]
fn no_writer_passes_the_clock_bound_and_no_time_comes_near_the_greatest_version() {
    let now: Time = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut signal = read(&event("writer", "postgres".into())).unwrap();
    signal.timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
    assert!(signal.bound_commit_time(now, &Limits::default()));
    assert_eq!(signal.timestamp, now, "a commit time beyond the bound is replaced");
    assert!(!signal.bound_commit_time(now, &Limits::default()));
    for writer in ["claude", "operator"] {
        let mut event = read(&event("writer", writer.into())).unwrap();
        event.timestamp = "2026-01-03T00:00:00Z".parse().unwrap();
        assert_eq!(event.check_clock(now, &Limits::default()).unwrap_err().field, "timestamp", "{writer}");
        // Whatever the clock shows.
        event.timestamp = "2250-01-01T00:00:00Z".parse().unwrap();
        let error = event.check_clock("2251-01-01T00:00:00Z".parse().unwrap(), &Limits::default()).unwrap_err();
        assert!(error.message.contains("too near"), "{error:?}");
    }
}

#[test]
fn a_bare_chunk_with_another_vector_is_another_event_and_the_same_chunk_is_not() {
    let first = chunk(&read(&good()).unwrap()).clone();
    let mut other = first.clone();
    other.embeddings.dense[0].vector = vec![0.5; 768].into();
    let id = |chunk: &Chunk| Event::of_chunk(chunk.clone()).event_id;
    assert_eq!(id(&first), id(&first.clone()));
    assert_ne!(id(&first), id(&other), "a new vector");
    other = first.clone();
    other.metadata.extra.insert("team".into(), "blue".into());
    assert_ne!(id(&first), id(&other), "new metadata");
}

#[test]
fn a_stream_entry_with_a_missing_or_undecodable_field_is_rejected_with_its_name() {
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        read(&good()).unwrap().to_fields().into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    for name in ["event_id", "type", "source", "targets", "chunk", "timestamp"] {
        let without: Vec<_> = fields.iter().filter(|(k, _)| k != name.as_bytes()).cloned().collect();
        assert_eq!(Event::from_fields(&without, &Limits::default()).unwrap_err().field, name);
        let garbage: Vec<_> = fields
            .iter()
            .map(|(k, v)| (k.clone(), if k == name.as_bytes() { vec![0xff] } else { v.clone() }))
            .collect();
        assert_eq!(Event::from_fields(&garbage, &Limits::default()).unwrap_err().field, name);
    }
    let mut extra = fields;
    extra.push((b"shard".to_vec(), vec![0xff]));
    assert!(Event::from_fields(&extra, &Limits::default()).is_ok(), "other fields are ignored");
}

#[test]
fn part_names_survive_a_round_trip() {
    for (part, _) in chunk(&read(&good()).unwrap()).parts() {
        assert_eq!(part.to_string().parse::<PartPattern>().unwrap(), PartPattern::One(part));
    }
}

#[test]
fn documents_show_what_differs_by_field() {
    let event = read(&good()).unwrap();
    let state = State { chunk: chunk(&event).clone(), embedding_stale: false };
    let mut other = state.clone();
    other.chunk.summary = None;
    other.chunk.graph.relationships.clear();
    other.embedding_stale = true;
    let limits = Limits::default();
    let vectors = |state| VectorDocument::of(state, &limits).fingerprint();
    assert_eq!(vectors(&state).differing(&vectors(&other)), ["embedding_stale", "summary"]);
    let graph = |state| GraphDocument::of(state).fingerprint();
    assert_eq!(graph(&state).differing(&graph(&other)), ["relations"]);
    assert_eq!(row_fingerprint(&state).differing(&row_fingerprint(&other)).len(), 3);
}

#[test]
fn a_normalised_vector_has_length_one_and_zeros_stay_zeros() {
    let event = read(&broken("/embeddings/dense/vector", json!((0..768).map(f64::from).collect::<Vec<_>>()))).unwrap();
    let once = chunk(&event).embeddings.dense[0].vector.normalised();
    let norm: f64 = once.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    assert!((norm - 1.0).abs() < 1e-6);
    let zeros: chunk_sync_model::vector::Vector = vec![0.0; 4].into();
    assert_eq!(zeros.normalised(), [0.0; 4]);
}

#[test]
fn every_text_and_list_of_a_published_chunk_is_bounded() {
    let long = "x".repeat(5_000);
    let entity = |i: usize| json!({"id": format!("e{i}"), "type": "concept", "name": "e", "confidence": 1.0, "source_positions": []});
    for (pointer, value, field) in [
        ("/organization/cognee_dataset", json!(long), "chunk.organization.cognee_dataset"),
        ("/source/path", json!(long), "chunk.source.path"),
        ("/summary", json!(long.repeat(20)), "chunk.summary"),
        ("/code_metadata/imports", json!([long]), "chunk.code_metadata.imports[0]"),
        ("/graph/entities/0/name", json!(long), "chunk.graph.entities[0].name"),
        ("/graph/entities", (0..2_001).map(entity).collect(), "chunk.graph.entities"),
        ("/graph/entities/0/source_positions", json!([u64::MAX]), "chunk.graph.entities[0].source_positions"),
        ("/embeddings/sparse/indices", (0..16_001).collect(), "chunk.embeddings.sparse.indices"),
        ("/metadata/author", json!(long.repeat(500)), "chunk"),
    ] {
        let mut json = good();
        *json.pointer_mut(pointer).unwrap() = value;
        json["embeddings"]["sparse"]["values"] =
            vec![1.0; json["embeddings"]["sparse"]["indices"].as_array().unwrap().len()].into();
        assert_eq!(read(&json).unwrap_err().0, field);
    }
}

#[test]
fn a_refusal_says_whether_a_setting_or_the_clock_decides() {
    let cause = |json: &Value| Event::from_json(&json.to_string(), &Limits::default()).unwrap_err().cause;
    for (pointer, value, expected) in [
        ("/content", json!("short"), Cause::Setting),
        ("/embeddings/dense/model", json!("other"), Cause::Setting),
        ("/embeddings/dense/vector", json!([1.0]), Cause::Setting),
        ("/chunk_type", json!("other"), Cause::Format),
        ("/location/start_char", json!(99), Cause::Format),
    ] {
        let mut json = good();
        *json.pointer_mut(pointer).unwrap() = value;
        assert_eq!(cause(&json), expected, "{pointer}");
    }
    let event = read(&good()).unwrap();
    let early = Time::from_micros(event.time().micros() - 10 * 60 * 1_000_000);
    assert_eq!(event.check_clock(early, &Limits::default()).unwrap_err().cause, Cause::Clock);
}
