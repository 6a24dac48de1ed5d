//! The document of a chunk in Qdrant: vectors and payload.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fingerprint::Fingerprint;
use super::numbers::round_numbers;
use crate::chunk::{Chunk, State};
use crate::{Hash, Limits};

/// What Qdrant holds: named vectors, normalised, and a payload. The sync version is handled by the connector and is not
/// a field of the document.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorDocument {
    /// Dense vectors by their name in Qdrant, normalised to length one.
    pub dense: BTreeMap<String, Vec<f32>>,
    /// The sparse vector: ascending indices, and one value per index.
    pub sparse: Option<(Vec<u32>, Vec<f32>)>,
    /// The payload; keys without a value are omitted. Its numbers are [rounded](round_numbers).
    pub payload: Map<String, Value>,
}

/// The name of the sparse vector in Qdrant.
pub const SPARSE_VECTOR: &str = "sparse_splade";

/// The name of the vector in Qdrant that holds the alternative after a conflict resolved by `keep_both`.
pub const ALTERNATIVE_VECTOR: &str = "dense_alternative";

/// The keys that a payload in Qdrant may have, besides the connector's. All other keys belong to other programs.
pub const PAYLOAD_KEYS: [&str; 16] = [
    "content",
    "summary",
    "chunk_type",
    "project_id",
    "dataset_id",
    "cognee_dataset",
    "source_type",
    "language",
    "is_code",
    "system_origin",
    "created_at",
    "updated_at",
    "path",
    "metadata",
    "sparse_model",
    "embedding_stale",
];

impl VectorDocument {
    /// The document of `state` for Qdrant. It omits vectors of models that are not configured or whose length differs
    /// from the configured size, and an alternative whose length differs from the size of the first configured model.
    #[must_use]
    pub fn of(state: &State, limits: &Limits) -> Self {
        let chunk = &state.chunk;
        let fits = |d: &&crate::chunk::Dense| limits.model(&d.model).is_some_and(|m| m.size == d.vector.len());
        let mut dense: BTreeMap<_, _> = chunk
            .embeddings
            .dense
            .iter()
            .filter(fits)
            .filter_map(|d| Some((limits.model(&d.model)?.vector.clone(), d.vector.normalised())))
            .collect();
        let alternative_size = limits.models.first().map(|model| model.size);
        let alternative = chunk.embeddings.dense_alternative.as_ref();
        if let Some(other) = alternative.filter(|other| Some(other.vector.len()) == alternative_size) {
            dense.insert(ALTERNATIVE_VECTOR.into(), other.vector.normalised());
        }
        let sparse = chunk.embeddings.sparse.as_ref().map(|s| (s.indices.clone(), s.values.clone()));
        Self { dense, sparse, payload: payload(state) }
    }

    /// One field per vector name and per payload key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fields = BTreeMap::new();
        for (name, vector) in &self.dense {
            fields.insert(name.clone(), hash_floats(&[], vector));
        }
        if let Some((indices, values)) = &self.sparse {
            fields.insert(SPARSE_VECTOR.into(), hash_floats(indices, values));
        }
        fields.extend(self.payload.iter().map(|(key, value)| (key.clone(), Hash::of_json(value))));
        Fingerprint(fields)
    }
}

pub(super) fn hash_floats(indices: &[u32], values: &[f32]) -> Hash {
    let mut bytes: Vec<u8> = indices.iter().flat_map(|i| i.to_le_bytes()).collect();
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    Hash::of_bytes(&bytes)
}

pub(super) fn payload(state: &State) -> Map<String, Value> {
    let chunk = &state.chunk;
    let organization = &chunk.organization;
    let code = chunk.code_metadata.as_ref();
    // In the order of the keys.
    let values = [
        Some(Value::from(chunk.content.as_str())),
        chunk.summary.as_deref().map(Value::from),
        Some(chunk.chunk_type.as_str().into()),
        organization.project_id.map(|id| id.to_string().into()),
        organization.dataset_id.map(|id| id.to_string().into()),
        organization.cognee_dataset.as_deref().map(Value::from),
        Some(chunk.source.kind.as_str().into()),
        code.map(|code| code.language.as_str().into()),
        code.map(|code| code.is_code.into()),
        Some(chunk.system_origin.as_str().into()),
        Some(chunk.metadata.created_at.to_string().into()),
        Some(chunk.metadata.updated_at.to_string().into()),
        chunk.source.path.as_deref().map(Value::from),
        metadata(chunk),
        chunk.embeddings.sparse.as_ref().map(|sparse| sparse.model.as_str().into()),
        state.embedding_stale.then_some(true.into()),
    ];
    PAYLOAD_KEYS.into_iter().zip(values).filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn metadata(chunk: &Chunk) -> Option<Value> {
    let mut metadata = serde_json::to_value(&chunk.metadata).ok()?;
    round_numbers(&mut metadata);
    Some(metadata)
}
