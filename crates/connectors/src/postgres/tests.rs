//! Round trips from a state to its row and back, without a server, for tables with wide and narrow columns.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use chunk_sync_model::chunk::{ChunkType, Dense, SourceType};
use chunk_sync_model::version::Origin;
use chunk_sync_model::{Limits, State, Time};
use chunk_sync_samples::generate::{Generator, Rng};
use chunk_sync_testkit::states::{awkward, state};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cell::{Cell, widened};
use super::decode::{Decoded, decode};
use super::encode::{Room, encode};
use super::row::{Further, RowImage};

const WIDE: Room = Room { dense: Some(768), sparse: Some(30_522), numbers: [i64::MAX; 4], confidence: true };

/// Tables with different limits.
fn rooms() -> [Room; 4] {
    let narrow = [i16::MAX.into(), i32::MAX.into(), 3, 0];
    [
        WIDE,
        Room { dense: None, sparse: None, ..WIDE },
        Room { dense: Some(3), sparse: Some(8), numbers: narrow, confidence: false },
        Room { numbers: narrow, ..WIDE },
    ]
}

/// The row as a table with these limits returns it.
fn stored(row: RowImage, room: &Room) -> RowImage {
    let (id, further) = (row.id, row.further.clone());
    let cells = row.into_cells(30_522).into_iter().map(|cell| match cell {
        Cell::Json(value) => Cell::Json(serde_json::from_str(&value.to_string()).unwrap()),
        Cell::Sparse(sparse, _) if room.sparse.is_none() => Cell::Json(serde_json::to_value(sparse).unwrap()),
        #[allow(clippy::cast_possible_truncation)]
        Cell::Real(number) if !room.confidence => Cell::Real(widened(number as f32)),
        cell => cell,
    });
    RowImage { further, ..RowImage::from_cells(id, cells) }
}

fn read(row: RowImage) -> Decoded {
    decode(row, &Limits::default(), Time::from_micros(7))
}

fn comes_back(state: &State, seed: u64) {
    for room in rooms() {
        let row = encode(state, &room, &Limits::default());
        let fits = |column: Option<i64>, greatest: i64| column.is_none_or(|number| number <= greatest);
        assert!(fits(row.start_line, room.numbers[0]) && fits(row.end_char, room.numbers[3]));
        let decoded = read(stored(row, &room));
        assert_eq!(&decoded.state, state, "CHUNK_SYNC_TEST_SEED={seed}, {room:?}");
        assert!(decoded.defaults.is_empty());
    }
}

#[test]
fn an_awkward_state_comes_back_from_every_kind_of_table() {
    for state in awkward() {
        comes_back(&state, 0);
    }
}

#[test]
fn every_edit_of_a_generated_chunk_comes_back() {
    let seed = std::env::var("CHUNK_SYNC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    let mut rng = Rng::new(seed);
    for mut json in Generator::new(seed).take(40) {
        for _ in 0..3 {
            comes_back(&state(&json), seed);
            json = Generator::edit(&json, &mut rng);
        }
    }
}

fn kept_both() -> Arc<State> {
    awkward().into_iter().find(|state| state.chunk.embeddings.dense_alternative.is_some()).unwrap()
}

#[test]
fn a_row_inserted_again_does_not_show_the_vectors_of_the_old_one() {
    let row = encode(&kept_both(), &WIDE, &Limits::default());
    assert!(row.further.iter().any(|further| further.alternative));
    let anew = RowImage { id: row.id, content: Some("another".into()), further: row.further, ..RowImage::default() };
    let chunk = read(anew).state.chunk;
    assert!(chunk.embeddings.is_empty());
}

#[test]
fn the_column_holds_the_vector_of_the_first_configured_model() {
    let two = awkward().into_iter().find(|state| state.chunk.embeddings.dense.len() == 2).unwrap();
    let row = encode(&two, &WIDE, &Limits::default());
    assert_eq!(row.embedding_model.as_deref(), Some("gte"));
    assert_eq!(row.further.iter().map(|further| further.dense.model.as_str()).collect::<Vec<_>>(), ["coderank"]);
}

#[test]
fn a_row_without_values_has_the_defaults() {
    let decoded = read(RowImage { content: Some("äöü".into()), ..RowImage::default() });
    let chunk = &decoded.state.chunk;
    assert_eq!((chunk.source.kind, chunk.chunk_type), (SourceType::Api, ChunkType::Text));
    assert_eq!((chunk.location.start_char, chunk.location.end_char, chunk.location.chunk_index), (0, 3, 0));
    assert_eq!(chunk.system_origin, Origin::Hybrid);
    assert_eq!(chunk.metadata.created_at, Time::from_micros(7));
    assert_eq!(chunk.metadata.updated_at, Time::from_micros(7));
    assert!(chunk.code_metadata.is_none() && chunk.graph.is_empty() && chunk.embeddings.is_empty());
    assert_eq!(decoded.defaults, ["chunk_type", "source_type", "start_char", "end_char", "updated_at", "created_at"]);
}

#[test]
fn the_organization_of_a_row_determines_its_origin() {
    let some = Some(Uuid::max());
    for (project_id, cognee_dataset_id, origin) in [
        (some, None, Origin::Claude),
        (None, some, Origin::Cognee),
        (some, some, Origin::Hybrid),
        (None, None, Origin::Hybrid),
    ] {
        let row = RowImage { project_id, cognee_dataset_id, dataset_id: some, ..RowImage::default() };
        assert_eq!(read(row).state.chunk.system_origin, origin);
    }
    let metadata = Some(json!({ "_chunk": { "system_origin": "cognee" } }));
    assert_eq!(
        read(RowImage { metadata, project_id: some, ..RowImage::default() }).state.chunk.system_origin,
        Origin::Cognee
    );
}

#[test]
fn an_invalid_value_counts_as_missing() {
    let row = RowImage {
        chunk_type: Some("poem".into()),
        source_type: Some("".into()),
        start_char: Some(-1),
        end_char: Some(i64::MAX),
        start_line: Some(9),
        end_line: Some(2),
        confidence: Some(7.5),
        entity_refs: Some(json!(["e", 3, { "name": "no id" }, { "id": "f", "name": "named" }, "e", ""])),
        metadata: Some(
            json!({ "_chunk": { "chunk_index": "x", "repo": "r", "relationships": 3, "own": 1 }, "kept": 1 }),
        ),
        dense_vector: Some(vec![f32::NAN].into()),
        ..RowImage::default()
    };
    let chunk = read(row).state.chunk;
    assert_eq!((chunk.chunk_type, chunk.source.kind), (ChunkType::Text, SourceType::Api));
    assert_eq!((chunk.location.start_char, chunk.location.end_char), (0, 0));
    assert_eq!((chunk.location.start_line, chunk.location.end_line), (Some(9), None));
    assert_eq!(chunk.code_metadata.map(|code| code.confidence), Some(1.0));
    let named: Vec<_> = chunk.graph.entities.iter().map(|e| (e.id.as_str(), e.name.as_str())).collect();
    assert_eq!(named, [("e", "e"), ("f", "named")]);
    assert_eq!((chunk.source.repo.as_deref(), chunk.location.chunk_index), (Some("r"), 0));
    assert_eq!(chunk.metadata.extra.keys().collect::<Vec<_>>(), ["kept"]);
    assert!(chunk.embeddings.is_empty());
    for metadata in [json!([1]), json!("text"), Value::Null] {
        assert!(
            read(RowImage { metadata: Some(metadata), ..RowImage::default() }).state.chunk.metadata.extra.is_empty()
        );
    }
}

#[test]
fn a_relation_without_one_of_its_entities_is_dropped() {
    let whole = awkward().into_iter().find(|state| !state.chunk.graph.relationships.is_empty()).unwrap();
    let mut row = encode(&whole, &WIDE, &Limits::default());
    row.entity_refs = Some(json!(["ünï"]));
    let graph = read(row).state.chunk.graph;
    assert!(!graph.relationships.is_empty());
    assert!(graph.relationships.iter().all(|r| r.source_entity_id == "ünï" && r.target_entity_id == "ünï"));
}

#[test]
fn a_time_without_its_column_is_taken_from_the_metadata() {
    let metadata = Some(json!({ "created_at": "2026-01-01T00:00:00Z", "updated_at": "no time", "indexed_at": 5 }));
    let read = read(RowImage { metadata, ..RowImage::default() }).state.chunk.metadata;
    assert_eq!(read.created_at, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!((read.updated_at, read.indexed_at, read.extra.len()), (read.created_at, None, 0));
}

#[test]
fn a_vector_without_a_model_gets_the_first_model_of_its_size() {
    let mut limits = Limits::default();
    limits.models[1].size = 2;
    let row = RowImage { dense_vector: Some(vec![1.0, 2.0].into()), ..RowImage::default() };
    assert_eq!(
        decode(row, &limits, Time::from_micros(0)).state.chunk.embeddings.dense[0].model,
        limits.models[1].model
    );
}

#[test]
fn a_row_that_names_another_model_shows_each_model_once() {
    let dense = |x: f32| Dense { model: "coderank".into(), vector: vec![x; 2].into(), timestamp: None };
    let row = RowImage {
        dense_vector: Some(dense(1.0).vector),
        embedding_model: Some("coderank".into()),
        further: vec![Further { alternative: false, dense: dense(2.0) }],
        metadata: Some(json!({ "_chunk": { "further": ["coderank"] } })),
        ..RowImage::default()
    };
    assert_eq!(read(row).state.chunk.embeddings.dense, [dense(1.0)]);
}
