//! Configurable limits on published chunks.

use serde::{Deserialize, Serialize};

/// A configured embedding model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingModel {
    /// The model's name, as in `embeddings.dense.model`.
    pub model: String,
    /// The name of the model's vector in Qdrant.
    pub vector: String,
    /// Numbers per vector.
    pub size: usize,
}

/// Limits on published chunks. They do not apply to rows captured from PostgreSQL, which exist already.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Minimum length of `content`, in characters.
    pub content_min_chars: usize,
    /// Maximum length of `content`, in bytes of UTF-8.
    pub content_max_bytes: usize,
    /// Maximum length of `summary`, in bytes.
    pub summary_max_bytes: usize,
    /// Maximum length of every other text of a field, and of a key of `metadata`, in bytes. Indexes of Neo4j accept
    /// about 8,160.
    pub text_max_bytes: usize,
    /// Most entities of a chunk.
    pub entities_max: usize,
    /// Most relationships of a chunk.
    pub relationships_max: usize,
    /// Maximum length of the whole chunk as JSON, in bytes.
    pub chunk_max_bytes: usize,
    /// Maximum length of a whole event as the fields of an entry, in bytes. Longer entries are not read from the bus.
    pub event_max_bytes: usize,
    /// Maximum length of a captured row, in bytes. Longer rows are not read.
    pub row_max_bytes: usize,
    /// How far the time of a change may lie ahead of the service's clock, in microseconds.
    pub max_ahead_micros: i64,
    /// The configured dense models.
    pub models: Vec<EmbeddingModel>,
}

/// Most values of a sparse vector: pgvector's `sparsevec` has no room for more.
pub const SPARSE_MOST: usize = 16_000;

/// Exclusive upper bound of sparse indices: the vocabulary size of SPLADE's tokenizer.
pub const SPARSE_SIZE: u32 = 30_522;

impl Default for Limits {
    fn default() -> Self {
        let model = |model: &str| EmbeddingModel { model: model.into(), vector: format!("dense_{model}"), size: 768 };
        Self {
            content_min_chars: 10,
            content_max_bytes: 50 * 1024,
            summary_max_bytes: 50 * 1024,
            text_max_bytes: 4096,
            entities_max: 2_000,
            relationships_max: 4_000,
            chunk_max_bytes: 2 << 20,
            event_max_bytes: 4 << 20,
            row_max_bytes: 16 << 20,
            max_ahead_micros: 5 * 60 * 1_000_000,
            models: vec![model("gte"), model("coderank"), model("cognee")],
        }
    }
}

impl Limits {
    /// The configured model named `name`.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&EmbeddingModel> {
        self.models.iter().find(|m| m.model == name)
    }
}
