//! Sample chunks of a small fictitious company, and a generator of further chunks.
//!
//! The crate contains the shipped data, the embedding that computes its vectors, and a seeded generator. It does not
//! validate chunks; the model crate does.

pub mod embed;
pub mod generate;
mod pool;
pub mod rng;

use serde_json::{Map, Value, json};

/// Length of the dense vectors in [`samples`].
pub const DENSE_SIZE: usize = 768;

/// The shipped chunks as JSON lines, one chunk per line, without `embeddings`.
pub fn json_lines() -> &'static str {
    include_str!("../data/chunks.jsonl")
}

/// The shipped chunks with a dense vector of [`DENSE_SIZE`] numbers (model `gte`) and a sparse one (model `splade`).
/// Both are computed from the content; their timestamp is `updated_at`.
pub fn samples() -> Vec<Value> {
    let mut chunks = parsed();
    for chunk in &mut chunks {
        let content = chunk["content"].as_str().unwrap_or_default();
        let dense = embed::dense(content, DENSE_SIZE);
        let filled = embeddings(content, &dense, &chunk["metadata"]["updated_at"]);
        chunk["embeddings"] = filled;
    }
    chunks
}

/// The shipped chunks as they are in the file.
pub(crate) fn parsed() -> Vec<Value> {
    // The text is compiled in and a test parses every line, so no line is dropped here.
    json_lines().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The field `embeddings` for `content` with the given dense vector.
pub(crate) fn embeddings(content: &str, dense: &[f32], timestamp: &Value) -> Value {
    let decimal = |&number: &f32| embed::rounded(f64::from(number));
    let (indices, values) = embed::sparse(content);
    let mut dense_part = Map::new();
    dense_part.insert("model".into(), json!("gte"));
    dense_part.insert("vector".into(), dense.iter().map(decimal).collect());
    dense_part.insert("timestamp".into(), timestamp.clone());
    let mut sparse_part = Map::new();
    sparse_part.insert("model".into(), json!("splade"));
    sparse_part.insert("indices".into(), indices.into());
    sparse_part.insert("values".into(), values.into());
    sparse_part.insert("timestamp".into(), timestamp.clone());
    json!({ "dense": dense_part, "sparse": sparse_part })
}
