//! What configuration allows a published chunk to be.

use serde::{Deserialize, Serialize};

/// One embedding model: its name in a chunk, the name of its vector in Qdrant, and its length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingModel {
    /// As in `embeddings.dense.model`.
    pub model: String,
    /// The name of the vector in Qdrant.
    pub vector: String,
    /// How many numbers a vector has.
    pub size: usize,
}

/// The bounds that published chunks keep; rows of PostgreSQL are facts and are not held to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Least length of `content`, in characters.
    pub content_min_chars: usize,
    /// Greatest length of `content`, in bytes of UTF-8.
    pub content_max_bytes: usize,
    /// How far ahead of the clock a change may say it was made, in microseconds.
    pub max_ahead_micros: i64,
    /// The dense models that are known.
    pub models: Vec<EmbeddingModel>,
}

/// Sparse indices are below this: the vocabulary of SPLADE's tokenizer.
pub const SPARSE_SIZE: u32 = 30_522;

impl Default for Limits {
    fn default() -> Self {
        let model = |model: &str| EmbeddingModel { model: model.into(), vector: format!("dense_{model}"), size: 768 };
        Self {
            content_min_chars: 10,
            content_max_bytes: 50 * 1024,
            max_ahead_micros: 5 * 60 * 1_000_000,
            models: vec![model("gte"), model("coderank"), model("cognee")],
        }
    }
}

impl Limits {
    /// The configured model of that name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&EmbeddingModel> {
        self.models.iter().find(|m| m.model == name)
    }
}
