//! A chunk with its record, and constructors of changes to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

pub mod histories;

use std::sync::Arc;

use chunk_sync_model::merge::{Change, Merged, Strategies, merge};
use chunk_sync_model::{Chunk, EventType, Record, State, Time, Writer};
use uuid::Uuid;

/// The record and state of a chunk, as in the system of record.
#[derive(Clone, Default)]
pub struct MergedChunk {
    pub record: Option<Record>,
    pub state: Option<Arc<State>>,
    pub strategies: Strategies,
}

impl MergedChunk {
    pub fn under(strategies: Strategies) -> Self {
        Self { strategies, ..Self::default() }
    }

    /// Merges a change; encodes and decodes the record, as the service does between merges.
    pub fn take(&mut self, change: &Change<'_>) -> Merged {
        let merged = merge(self.record.take(), self.state.take(), change, &self.strategies);
        let record = Record::decode(&merged.record.encode().unwrap()).unwrap();
        assert_eq!(record, merged.record, "the record changed by encoding and decoding");
        self.record = Some(record);
        self.state.clone_from(&merged.state);
        merged
    }

    pub fn chunk(&self) -> &Chunk {
        &self.state.as_ref().expect("the chunk exists").chunk
    }

    pub fn metadata(&self, key: &str) -> Option<String> {
        self.chunk().metadata.extra.get(key).map(|value| value.as_str().unwrap().to_owned())
    }
}

pub fn chunk(origin: &str, content: &str, metadata: &[(&str, &str)]) -> Chunk {
    let mut json = serde_json::json!({
        "id": "00000000-0000-0000-0000-000000000001", "system_origin": origin, "content": content, "chunk_type": "text",
        "source": {"type": "api"}, "location": {"start_char": 0, "end_char": 10, "chunk_index": 0}, "organization": {},
        "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"},
    });
    for (key, value) in metadata {
        json["metadata"][*key] = serde_json::Value::from(*value);
    }
    serde_json::from_value(json).unwrap()
}

/// A chunk with half a page of text, one vector of 768 numbers, six entities and six keys of metadata.
pub fn typical(origin: &str, edition: u32) -> Chunk {
    let keys: Vec<(String, String)> = (0..6).map(|i| (format!("key_{i}"), format!("value {i}"))).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut chunk = chunk(origin, &format!("edition {edition} {}", "of a text of some length ".repeat(60)), &keys);
    let entity = |i: u32| serde_json::json!({"id": format!("module::function_{i}"), "type": "function", "name": format!("function_{i}"), "confidence": 0.9});
    chunk.graph =
        serde_json::from_value(serde_json::json!({"entities": (0..6).map(entity).collect::<Vec<_>>()})).unwrap();
    let numbers: Vec<f64> = (0..768).map(|i| f64::from(i * 7 + edition) / 1000.0).collect();
    let dense = serde_json::json!({"model": "gte", "vector": numbers, "timestamp": "2026-01-01T00:00:00Z"});
    chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
    chunk
}

/// The chunk with a dense vector of one number for the model `gte`.
pub fn with_dense(mut chunk: Chunk, number: f32) -> Chunk {
    let dense = serde_json::json!({"model": "gte", "vector": [number], "timestamp": "2026-01-01T00:00:00Z"});
    chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
    chunk
}

pub fn view(writer: Writer, micros: i64, kind: EventType, view: &Chunk) -> Change<'_> {
    let event = Uuid::from_u128(micros.unsigned_abs().into());
    Change { writer, time: Time::from_micros(micros), event, kind, view: Some(view), unchanged: &[], set: &[] }
}

pub fn update(writer: Writer, micros: i64, chunk: &Chunk) -> Change<'_> {
    view(writer, micros, EventType::Update, chunk)
}

pub fn delete<'a>(writer: Writer, micros: i64) -> Change<'a> {
    let event = Uuid::from_u128(micros.unsigned_abs().into());
    let time = Time::from_micros(micros);
    Change { writer, time, event, kind: EventType::Delete, view: None, unchanged: &[], set: &[] }
}
