//! Checks the shipped chunks, the first 2,000 generated ones and long chains of edits against the rules of a chunk.
//! The checker below is written from the rules only and shares no code with the crate under test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, HashSet};

use chunk_sync_samples::embed::dense;
use chunk_sync_samples::generate::{Generator, Rng};
use chunk_sync_samples::{DENSE_SIZE, json_lines, samples};
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The first rule that `chunk` breaks; `None` if it breaks none. With `dense_size` 0 it must have no embeddings.
fn broken_rule(chunk: &Value, dense_size: usize) -> Option<String> {
    let content = chunk["content"].as_str().unwrap();
    let rules: [(&str, bool); 9] = [
        ("id", is_uuid(&chunk["id"])),
        ("system_origin", one_of(&chunk["system_origin"], "claude cognee hybrid")),
        ("content", content.chars().count() >= 10 && content.len() <= 50 * 1024 && !content.contains('\0')),
        ("chunk_type", one_of(&chunk["chunk_type"], "text code mixed")),
        ("source", one_of(&chunk["source"]["type"], "github web file api")),
        ("location", location_holds(&chunk["location"], content)),
        ("graph", graph_holds(&chunk["graph"], content)),
        ("times", times_hold(&chunk["metadata"])),
        ("embeddings", embeddings_hold(chunk, dense_size)),
    ];
    let broken = rules.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name.to_owned());
    broken.or_else(|| unknown_field(chunk))
}

fn one_of(value: &Value, allowed: &str) -> bool {
    value.as_str().is_some_and(|value| allowed.split(' ').any(|name| name == value))
}

fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| Uuid::parse_str(text).is_ok())
}

fn is_share(value: &Value) -> bool {
    value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share))
}

fn location_holds(location: &Value, content: &str) -> bool {
    let span = |start: &str, end: &str| Some(location[end].as_u64()?.checked_sub(location[start].as_u64()?)? as usize);
    let lines_hold = match (&location["start_line"], &location["end_line"]) {
        (Value::Null, Value::Null) => true,
        _ => span("start_line", "end_line") == Some(content.matches('\n').count()),
    };
    location["chunk_index"].is_u64() && span("start_char", "end_char") == Some(content.chars().count()) && lines_hold
}

fn graph_holds(graph: &Value, content: &str) -> bool {
    const KINDS: &str = "person organization location function class variable concept";
    const RELATIONS: &str = "calls imports extends implements references contains related_to";
    let empty = Vec::new();
    let entities = graph["entities"].as_array().unwrap_or(&empty);
    let relations = graph["relationships"].as_array().unwrap_or(&empty);
    let ids: HashSet<&str> = entities.iter().filter_map(|entity| entity["id"].as_str()).collect();
    let length = content.chars().count() as u64;
    let entity_holds = |entity: &Value| {
        let positions = entity["source_positions"].as_array().unwrap();
        (1..=512).contains(&entity["id"].as_str().unwrap().len())
            && one_of(&entity["type"], KINDS)
            && entity["name"].is_string()
            && is_share(&entity["confidence"])
            && positions.iter().all(|position| position.as_u64().unwrap() < length)
    };
    let named = |end: &Value| end.as_str().is_some_and(|id| ids.contains(id));
    let relation_holds = |relation: &Value| {
        named(&relation["source_entity_id"])
            && named(&relation["target_entity_id"])
            && one_of(&relation["type"], RELATIONS)
            && is_share(&relation["confidence"])
    };
    let key = |r: &Value| ["source_entity_id", "target_entity_id", "type"].map(|name| r[name].to_string());
    let distinct: HashSet<_> = relations.iter().map(key).collect();
    ids.len() == entities.len()
        && entities.len() <= 6
        && distinct.len() == relations.len()
        && entities.iter().all(entity_holds)
        && relations.iter().all(relation_holds)
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn times_hold(metadata: &Value) -> bool {
    time(&metadata["created_at"]) <= time(&metadata["updated_at"]) && metadata.get("_chunk").is_none()
}

fn embeddings_hold(chunk: &Value, dense_size: usize) -> bool {
    let Some(embeddings) = chunk.get("embeddings") else {
        return dense_size == 0;
    };
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let vector = numbers(&embeddings["dense"]["vector"]);
    let norm: f64 = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    let indices = numbers(&embeddings["sparse"]["indices"]);
    let values = numbers(&embeddings["sparse"]["values"]);
    embeddings["dense"]["model"] == "gte"
        && embeddings["dense"]["timestamp"].is_string()
        && vector.len() == dense_size
        && (norm - 1.0).abs() < 1e-5
        && embeddings["sparse"]["model"] == "splade"
        && embeddings["sparse"]["timestamp"].is_string()
        && indices.len() == values.len()
        && indices.is_sorted_by(|a, b| a < b)
        && indices.iter().all(|index| *index < 30522.0)
        && values.iter().all(|value| value.is_finite())
}

/// The first field outside `metadata` that the format does not have.
fn unknown_field(chunk: &Value) -> Option<String> {
    let known = [
        (
            "",
            "id system_origin content summary chunk_type embeddings source location code_metadata graph organization metadata",
        ),
        ("/embeddings", "dense sparse"),
        ("/source", "type url path repo branch commit"),
        ("/location", "start_line end_line start_char end_char chunk_index"),
        ("/code_metadata", "language is_code confidence symbols imports ast_features"),
        ("/graph", "node_id entities relationships"),
        ("/organization", "project_id dataset_id cognee_dataset scope"),
    ];
    let none = Map::new();
    known.into_iter().find_map(|(path, names)| {
        let object = chunk.pointer(path).map_or(&none, |value| value.as_object().unwrap());
        let unknown = object.keys().find(|key| names.split(' ').all(|name| name != key.as_str()));
        unknown.map(|key| format!("{path}/{key}"))
    })
}

fn assert_valid(chunk: &Value, dense_size: usize) {
    let broken = broken_rule(chunk, dense_size);
    assert!(broken.is_none(), "{} breaks the rule for {}", chunk["id"], broken.unwrap_or_default());
}

#[test]
fn every_shipped_chunk_is_valid_and_has_a_unique_id() {
    let chunks = samples();
    assert_eq!(chunks.len(), json_lines().lines().count());
    assert!((150..=200).contains(&chunks.len()));
    chunks.iter().for_each(|chunk| assert_valid(chunk, DENSE_SIZE));
    let ids: HashSet<String> = chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
    assert_eq!(ids.len(), chunks.len());
}

#[test]
fn a_vector_of_a_sample_survives_json_bit_for_bit() {
    for chunk in samples() {
        let read: Value = serde_json::from_str(&chunk.to_string()).unwrap();
        let vector: Vec<f32> = serde_json::from_value(read["embeddings"]["dense"]["vector"].clone()).unwrap();
        assert_eq!(vector, dense(chunk["content"].as_str().unwrap(), DENSE_SIZE), "{}", chunk["id"]);
    }
}

#[test]
fn an_entity_has_the_same_name_and_type_in_all_chunks() {
    let mut seen: HashMap<String, (Value, Value)> = HashMap::new();
    for chunk in samples().into_iter().chain(Generator::new(5).size(0).take(2_000)) {
        for entity in chunk["graph"]["entities"].as_array().into_iter().flatten() {
            let is = (entity["name"].clone(), entity["type"].clone());
            let was = seen.entry(entity["id"].to_string()).or_insert_with(|| is.clone());
            assert_eq!(*was, is, "{}", entity["id"]);
        }
    }
}

#[test]
fn the_shipped_chunks_include_valid_edge_cases() {
    let chunks = samples();
    let has = |rule: &dyn Fn(&Value) -> bool| chunks.iter().any(rule);
    let text = |chunk: &Value| chunk["content"].as_str().unwrap().to_owned();
    assert!(has(&|chunk| text(chunk).chars().count() == 10));
    assert!(has(&|chunk| text(chunk).contains('潮')) && has(&|chunk| text(chunk).contains('🌊')));
    assert!(has(&|chunk| text(chunk).contains('ق')) && has(&|chunk| text(chunk).contains('Σ')));
    assert!(has(&|chunk| text(chunk).lines().any(|line| line.len() > 2_000)));
    assert!(has(&|chunk| chunk["graph"]["entities"].to_string().contains("DROP TABLE")));
    assert!(has(&|chunk| chunk["graph"]["entities"].to_string().contains("DETACH DELETE")));
    assert!(has(&|chunk| chunk["metadata"].get("source.system").is_some()));
    assert!(has(&|chunk| chunk["graph"]["entities"].as_array().is_some_and(Vec::is_empty)));
    for absent in ["graph", "code_metadata", "summary"] {
        assert!(has(&|chunk| chunk.get(absent).is_none()), "{absent}");
    }
}

#[test]
fn the_first_two_thousand_generated_chunks_are_valid_and_ascend_in_time() {
    for (seed, size) in [(1, DENSE_SIZE), (2, 384), (3, 0)] {
        let mut last = Timestamp::MIN;
        let mut ids = HashSet::new();
        for chunk in Generator::new(seed).size(size).take(2_000) {
            assert_valid(&chunk, size);
            assert!(ids.insert(chunk["id"].to_string()), "seed {seed}: id {} occurs twice", chunk["id"]);
            let updated = time(&chunk["metadata"]["updated_at"]);
            assert!(
                updated > last,
                "seed {seed}: updated_at of {} is not later than that of its predecessor",
                chunk["id"]
            );
            last = updated;
        }
    }
}

#[test]
fn an_edit_keeps_the_chunk_valid_and_advances_updated_at() {
    let generated = Generator::new(9).take(100);
    for (seed, before) in samples().into_iter().chain(generated).enumerate() {
        let mut rng = Rng::new(seed as u64);
        for _ in 0..8 {
            let after = Generator::edit(&before, &mut rng);
            assert_valid(&after, DENSE_SIZE);
            assert_eq!(before["id"], after["id"]);
            assert!(time(&after["metadata"]["updated_at"]) > time(&before["metadata"]["updated_at"]), "seed {seed}");
            assert_eq!(
                before["content"] == after["content"],
                before["embeddings"] == after["embeddings"],
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_chunk_stays_within_its_limits_after_a_thousand_edits() {
    let mut rng = Rng::new(4);
    for mut chunk in Generator::new(6).size(8).take(4) {
        for _ in 0..1_000 {
            chunk = Generator::edit(&chunk, &mut rng);
            assert_valid(&chunk, 8);
        }
    }
}
