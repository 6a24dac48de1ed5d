//! About how many bytes a chunk takes in memory and in a message to a store. Limits on queues and messages use it; it
//! is cheap to compute and not exact.

use serde_json::Value;

use crate::chunk::{Chunk, Embeddings, Graph, Metadata};

/// Ids, times and short fields of a chunk together, in bytes.
const FIXED: usize = 512;

/// The fixed part of an element of a list or map.
const ELEMENT: usize = 64;

impl Chunk {
    /// About how many bytes the chunk takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let code = self.code_metadata.as_ref().map_or(0, |code| {
            let names = code.symbols.iter().chain(&code.imports).flatten();
            names.map(|name| name.len() + ELEMENT).sum::<usize>() + code.ast_features.as_ref().map_or(0, value)
        });
        let summary = self.summary.as_ref().map_or(0, String::len);
        FIXED
            + self.content.len()
            + summary
            + code
            + embeddings(&self.embeddings)
            + graph(&self.graph)
            + metadata(&self.metadata)
    }
}

fn embeddings(embeddings: &Embeddings) -> usize {
    let dense = embeddings.dense.iter().chain(&embeddings.dense_alternative);
    let sparse = embeddings.sparse.as_ref().map_or(0, |sparse| sparse.indices.len() * 8);
    dense.map(|dense| dense.vector.len() * 4 + ELEMENT).sum::<usize>() + sparse
}

fn graph(graph: &Graph) -> usize {
    let entities = graph
        .entities
        .iter()
        .map(|e| e.id.len() + e.name.len() + e.source_positions.len() * 8 + ELEMENT)
        .sum::<usize>();
    let relationships = graph.relationships.iter().map(|r| {
        let extra = r.metadata.iter().flatten().map(|(key, of)| key.len() + value(of)).sum::<usize>();
        r.source_entity_id.len() + r.target_entity_id.len() + extra + ELEMENT
    });
    entities + relationships.sum::<usize>()
}

fn metadata(metadata: &Metadata) -> usize {
    metadata.extra.iter().map(|(key, of)| key.len() + value(of)).sum()
}

fn value(of: &Value) -> usize {
    let content = match of {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(value).sum(),
        Value::Object(fields) => fields.iter().map(|(key, of)| key.len() + value(of)).sum(),
    };
    content + ELEMENT
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn texts_vectors_and_nested_metadata_count() {
        let chunk = |content: &str, numbers: usize, extra: Value| -> Chunk {
            serde_json::from_value(json!({
                "id": "00000000-0000-0000-0000-000000000001", "system_origin": "claude", "content": content,
                "chunk_type": "text", "source": {"type": "api"},
                "embeddings": {"dense": {"model": "gte", "vector": vec![0.5; numbers]}},
                "location": {"start_char": 0, "end_char": 1, "chunk_index": 0}, "organization": {},
                "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "x": extra},
            }))
            .unwrap()
        };
        let small = chunk("ten letters", 1, Value::Null).weight();
        assert!(chunk(&"a".repeat(5_000), 1, Value::Null).weight() > small + 4_900);
        assert!(chunk("ten letters", 1_000, Value::Null).weight() > small + 3_900);
        assert!(chunk("ten letters", 1, json!([{"deep": "b".repeat(7_000)}])).weight() > small + 7_000);
    }
}
