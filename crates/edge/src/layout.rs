//! What the collection looks like: its vectors, its indexes, and whether a directory that is there looks the same.

use std::collections::{BTreeMap, HashMap};

use chunk_sync_model::Limits;
use chunk_sync_model::document::{ALTERNATIVE_VECTOR, SPARSE_VECTOR};
use qdrant_edge::{
    CreateVectorName, DenseVectorConfig, Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams,
    HnswIndexConfig, PayloadFieldSchema, PayloadSchemaType, VectorNameConfig, VectorNameOperations,
};

/// The payload key that holds the sync version.
pub(crate) const VERSION: &str = "sync_version";

/// The fields by which people filter.
pub(crate) const INDEXES: [(&str, PayloadSchemaType); 8] = [
    ("project_id", PayloadSchemaType::Keyword),
    ("dataset_id", PayloadSchemaType::Keyword),
    ("cognee_dataset", PayloadSchemaType::Keyword),
    ("source_type", PayloadSchemaType::Keyword),
    ("language", PayloadSchemaType::Keyword),
    ("system_origin", PayloadSchemaType::Keyword),
    ("is_code", PayloadSchemaType::Bool),
    ("created_at", PayloadSchemaType::Datetime),
];

pub(crate) fn schema(kind: PayloadSchemaType) -> PayloadFieldSchema {
    PayloadFieldSchema::FieldType(kind)
}

/// The dense vectors by name, with their sizes.
pub(crate) fn sizes(limits: &Limits) -> BTreeMap<String, usize> {
    let alternative = limits.models.first().map(|model| (ALTERNATIVE_VECTOR.to_owned(), model.size));
    limits.models.iter().map(|model| (model.vector.clone(), model.size)).chain(alternative).collect()
}

/// The configuration of the engine.
pub(crate) fn config(limits: &Limits) -> EdgeConfig {
    let dense = |(name, size)| (name, EdgeVectorParams::builder(size, Distance::Cosine).build());
    EdgeConfig {
        vectors: sizes(limits).into_iter().map(dense).collect(),
        sparse_vectors: HashMap::from([(SPARSE_VECTOR.to_owned(), EdgeSparseVectorParams::builder().build())]),
        hnsw_config: HnswIndexConfig { m: 16, ef_construct: 200, ..HnswIndexConfig::default() },
        ..EdgeConfig::default()
    }
}

/// The operations that add the vectors of models that are new in the configuration.
pub(crate) fn additions(held: &EdgeConfig, limits: &Limits) -> Vec<VectorNameOperations> {
    let new = sizes(limits).into_iter().filter(|(name, _)| !held.vectors.contains_key(name));
    let create = |(vector_name, size)| {
        let dense = DenseVectorConfig { size, distance: Distance::Cosine, multivector_config: None, datatype: None };
        let config = VectorNameConfig::dense(dense);
        VectorNameOperations::CreateVectorName(CreateVectorName { vector_name, config })
    };
    new.map(create).collect()
}

/// What keeps a directory from being used with the models that are configured.
pub(crate) fn differs(held: &EdgeConfig, limits: &Limits) -> Option<String> {
    let wanted = sizes(limits);
    let held: BTreeMap<&String, usize> = held.vectors.iter().map(|(name, vector)| (name, vector.size)).collect();
    for (name, held) in held {
        match wanted.get(name) {
            Some(size) if held == *size => {}
            Some(size) => return Some(format!("it holds `{name}` with {held} numbers, configured are {size}")),
            None => return Some(format!("it holds a vector `{name}`, which is not configured")),
        }
    }
    None
}
