//! States to write: the samples, generated ones, and awkward ones.

use std::sync::{Arc, Mutex};

use chunk_sync_engine::ports::Write;
use chunk_sync_model::chunk::Dense;
use chunk_sync_model::event::Body;
use chunk_sync_model::{Chunk, Event, Limits, State, SyncVersion};
use chunk_sync_samples::embed;
use chunk_sync_samples::generate::Generator;
use serde_json::{Value, json};
use uuid::Uuid;

/// The version with that number.
#[must_use]
pub fn version(number: u64) -> SyncVersion {
    SyncVersion::new(number)
}

/// The chunk of a JSON object that is a valid chunk.
#[must_use]
pub fn chunk(json: &Value) -> Chunk {
    match Event::from_json(&json.to_string(), &Limits::default()).unwrap().body {
        Body::Chunk(chunk) => *chunk,
        Body::Id(_) => unreachable!("a bare chunk has a body"),
    }
}

/// The state of that chunk, embeddings not stale.
#[must_use]
pub fn state(json: &Value) -> Arc<State> {
    Arc::new(State { chunk: chunk(json), embedding_stale: false })
}

/// `count` different states, the same at each call.
#[must_use]
pub fn states(count: usize) -> Vec<Arc<State>> {
    // Cached, because generating them takes longer than most tests.
    static MADE: Mutex<Vec<Arc<State>>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap();
    let (there, missing) = (made.len(), count.saturating_sub(made.len()));
    made.extend(Generator::new(3).skip(there).take(missing).map(|json| state(&json)));
    made[..count].to_vec()
}

/// The samples, as they ship.
#[must_use]
pub fn samples() -> Vec<Arc<State>> {
    chunk_sync_samples::samples().iter().map(state).collect()
}

/// All states worth testing: awkward ones, samples and generated ones.
#[must_use]
pub fn all() -> Vec<Arc<State>> {
    awkward().into_iter().chain(samples()).chain(states(20)).collect()
}

/// Under each id the state of the next chunk.
#[must_use]
pub fn rotated(states: &[Arc<State>]) -> Vec<Arc<State>> {
    let under = |(state, next): (&Arc<State>, &Arc<State>)| {
        let mut next = State::clone(next);
        next.chunk.id = state.chunk.id;
        Arc::new(next)
    };
    states.iter().zip(states.iter().cycle().skip(1)).map(under).collect()
}

/// A write of the state at version `number`, with new vectors.
#[must_use]
pub fn write(state: &Arc<State>, number: u64) -> Write {
    let version = version(number);
    Write { id: state.chunk.id, version, state: Some(Arc::clone(state)), vectors_since: version }
}

/// The deletion of a chunk.
#[must_use]
pub fn delete(id: Uuid, number: u64) -> Write {
    Write { id, version: version(number), state: None, vectors_since: version(number) }
}

/// The same chunk with other content and another vector.
#[must_use]
pub fn changed(state: &Arc<State>, content: &str) -> Arc<State> {
    let mut changed = State::clone(state);
    changed.chunk.content = content.to_owned();
    if let Some(dense) = changed.chunk.embeddings.dense.first_mut() {
        dense.vector = embed::dense(content, dense.vector.len()).into();
    }
    Arc::new(changed)
}

/// A chunk with only the required fields.
#[must_use]
pub fn bare(name: &str) -> Value {
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), "system_origin": "claude",
        "content": format!("a chunk called {name}"), "chunk_type": "text", "source": { "type": "api" },
        "location": { "start_char": 0, "end_char": 10, "chunk_index": 0 }, "organization": {},
        "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00.000001Z" },
    })
}

/// States that are known to break stores.
#[must_use]
pub fn awkward() -> Vec<Arc<State>> {
    let with = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut json = bare(name);
        change(&mut json);
        state(&json)
    };
    let mut states = vec![
        with("bare", &|_| {}),
        with("text of every kind", &|c| {
            c["content"] = "quotes ' \" ` \\ $1 {} line\nbreak\r\n\ttab 🜁 é e\u{301} \u{202e} \u{7f} \u{1}".into();
            c["summary"] = "".into();
        }),
        with("as long as allowed", &|c| c["content"] = "ä".repeat(25 * 1024).into()),
        with("statements for names", &|c| {
            c["graph"] = json!({ "node_id": "4:x:'--", "entities": [
                entity("'}) DETACH DELETE n //", "'; DROP TABLE chunks; --"),
                entity(&"i".repeat(512), "long id"), entity("ünï", "\" OR 1=1"), entity(" ", " "),
            ], "relationships": [
                relationship("ünï", "ünï", "calls"), relationship("ünï", " ", "calls"),
                relationship("ünï", " ", "contains"), relationship(" ", "ünï", "calls"),
            ] });
            c["organization"] = json!({ "cognee_dataset": "x'); MATCH (n) DELETE n; //", "scope": "project" });
        }),
        with("numbers", &|c| {
            c["metadata"]["numbers"] = json!([
                i64::MIN,
                i64::MAX,
                u64::MAX,
                0,
                -1,
                0.1,
                1e-7,
                1.5e300,
                5e-324,
                1e16,
                12345678.9,
                1e21,
                -0.0,
                100.0,
            ]);
            let of_seventeen_digits: Vec<f64> = (1..=100).map(|n| f64::from(n) / 7.0).collect();
            c["metadata"]["digits"] = of_seventeen_digits.into();
            c["metadata"]["nested"] = json!({ "a": { "b": [null, true, {}, [], "", { "c": 1 }] }, "": 0 });
            c["metadata"]["null"] = Value::Null;
            c["metadata"]["processing_time_ms"] = 0.25.into();
        }),
        with("first and last times", &|c| {
            c["metadata"]["created_at"] = "1970-01-01T00:00:00Z".into();
            c["metadata"]["updated_at"] = "2200-12-31T23:59:59.999999Z".into();
            c["metadata"]["indexed_at"] = "2026-02-28T12:00:00.1Z".into();
            c["metadata"]["cognified_at"] = "2026-02-28T12:00:00+05:30".into();
        }),
        with("all of code", &|c| {
            c["chunk_type"] = "code".into();
            c["source"] = json!({ "type": "github", "url": "https://x/y?z=1#a", "path": "a b/ü.rs", "repo": "r", "branch": "b", "commit": "c" });
            c["location"] = json!({ "start_line": 1, "end_line": 1, "start_char": 0, "end_char": 0, "chunk_index": 4_000_000_000_u64 });
            c["code_metadata"] = json!({ "language": "rust", "is_code": true, "confidence": 1, "symbols": ["a"], "imports": [], "ast_features": { "depth": 3 } });
            c["organization"] =
                json!({ "project_id": Uuid::nil(), "dataset_id": Uuid::max(), "cognee_dataset": "d", "scope": "user" });
        }),
        with("sparse only", &|c| {
            c["embeddings"]["sparse"] = json!({ "model": "bm25", "indices": [30521, 0, 7], "values": [0.5, -1.25, 1e-30], "timestamp": "2026-01-01T00:00:00Z" });
        }),
        with("an empty sparse vector", &|c| {
            c["embeddings"]["sparse"] =
                json!({ "model": "splade", "indices": [], "values": [], "timestamp": "2026-01-01T00:00:00Z" });
        }),
        with("a sparse vector of zeros", &|c| {
            c["embeddings"]["sparse"] =
                json!({ "model": "splade", "indices": [5], "values": [0.0], "timestamp": "2026-01-01T00:00:00Z" });
        }),
        with("a vector of zeros", &|c| c["embeddings"]["dense"] = dense("gte", &[0.0])),
        with("a vector far from length one", &|c| c["embeddings"]["dense"] = dense("gte", &[3.0e8, -4.0e-8, 1.0])),
        with("a tiny vector", &|c| c["embeddings"]["dense"] = dense("gte", &[1e-20, 2e-20])),
        with("two models", &|c| {
            c["embeddings"]["dense"] = json!([dense("gte", &[1.0, 2.0]), dense("coderank", &[0.1, 0.2, 0.3])]);
        }),
    ];
    let mut both = chunk(&bare("kept both"));
    let one = |x: f32| Dense { vector: vec![x; 768].into(), ..chunk(&bare_dense()).embeddings.dense[0].clone() };
    both.embeddings.dense = vec![one(0.5)];
    both.embeddings.dense_alternative = Some(Dense { vector: embed::dense("another", 768).into(), ..one(1.0) });
    both.embeddings.conflict_resolution = Some("keep_both".into());
    both.embeddings.primary_source = Some("claude".into());
    both.embeddings.alternative_source = Some("cognee".into());
    both.metadata.extra.insert("previous_version".into(), "0".repeat(64).into());
    both.metadata.extra.insert("resolution_strategy".into(), "last_write_wins".into());
    states.push(Arc::new(State { chunk: both, embedding_stale: true }));
    states
}

fn bare_dense() -> Value {
    let mut json = bare("dense");
    json["embeddings"]["dense"] = dense("gte", &[1.0]);
    json
}

/// A vector that begins with these numbers, padded with zeros.
fn dense(model: &str, begin: &[f64]) -> Value {
    let mut vector = vec![0.0; 768];
    vector[..begin.len()].copy_from_slice(begin);
    json!({ "model": model, "vector": vector, "timestamp": "2026-01-01T00:00:00Z" })
}

/// An entity of that id and name.
#[must_use]
pub fn entity(id: &str, name: &str) -> Value {
    json!({ "id": id, "type": "concept", "name": name, "confidence": 0.1, "source_positions": [0, 7] })
}

/// A relationship between two entities.
#[must_use]
pub fn relationship(source: &str, target: &str, kind: &str) -> Value {
    json!({ "source_entity_id": source, "target_entity_id": target, "type": kind, "confidence": 0.7 })
}
