//! The schema of the collection, its vectors and indexes: creates it, and compares an existing collection with it.

use std::collections::{BTreeMap, HashMap};

use chunk_sync_model::Limits;
use chunk_sync_model::document::{ALTERNATIVE_VECTOR, SPARSE_VECTOR};
use qdrant_client::qdrant::create_vector_name_request::VectorConfig;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionInfo, CollectionParams, CreateCollection, CreateFieldIndexCollection, CreateVectorNameRequest, Datatype,
    DenseVectorCreationConfig, Distance, FieldType, HnswConfigDiff, ShardingMethod, SparseVectorConfig,
    SparseVectorParams, VectorParams, VectorParamsMap, VectorsConfig,
};
use serde_json::json;
use tracing::info;

mod requests;

pub(super) use requests::requests;

use super::encode::VERSION;
use super::fault::Error;
use super::server::Server;

/// The indexed fields, which searches filter by, with their types in gRPC and in HTTP.
const INDEXES: [(&str, FieldType, &str); 8] = [
    ("project_id", FieldType::Keyword, "keyword"),
    ("dataset_id", FieldType::Keyword, "keyword"),
    ("cognee_dataset", FieldType::Keyword, "keyword"),
    ("source_type", FieldType::Keyword, "keyword"),
    ("language", FieldType::Keyword, "keyword"),
    ("system_origin", FieldType::Keyword, "keyword"),
    ("is_code", FieldType::Bool, "bool"),
    ("created_at", FieldType::Datetime, "datetime"),
];

/// Parameters of the HNSW index: edges per node, and neighbours considered when it is built.
/// The alias that marks a collection begins so; the id of the installation follows.
pub(super) const MARK_PREFIX: &str = "chunk_sync_";

const M: u64 = 16;
const EF_CONSTRUCT: u64 = 200;

/// The sizes of the configured dense vectors, by name.
fn sizes(limits: &Limits) -> BTreeMap<String, u64> {
    let alternative = limits.models.first().map(|model| (ALTERNATIVE_VECTOR.to_owned(), model.size as u64));
    limits.models.iter().map(|model| (model.vector.clone(), model.size as u64)).chain(alternative).collect()
}

/// The claims of a token (JWT) with which the service runs, once `init` has run with a key for everything.
#[must_use]
pub fn rights(collection: &str) -> String {
    json!({ "access": [{ "collection": collection, "access": "rw" }] }).to_string()
}

/// Creates the missing collection, vectors and indexes.
///
/// # Errors
/// [`Error::Setup`] if the server is older than 1.7, or an existing collection does not match `limits`. Else the error
/// of a call.
pub(super) async fn prepare(server: &Server, collection: &str, limits: &Limits) -> Result<(), Error> {
    server.version().await?;
    let held = match fetch(server, collection).await {
        Err(error) if error.is_not_found() => {
            let created = server.call(server.client.create_collection(creation(collection, limits))).await;
            // Another process may have created it first, so the existing collection decides, not the error.
            fetch(server, collection).await.map_err(|missing| created.err().unwrap_or(missing))?
        }
        held => held?,
    };
    let held = add_vectors(server, collection, limits, held).await?;
    must_match(differs(&params(&held), limits), collection)?;
    for (field, kind, _) in missing_indexes(&held) {
        server.call(server.client.create_field_index(index(collection, field, kind))).await?;
        info!(collection, field, "created an index of the payload");
    }
    Ok(())
}

fn must_match(difference: Option<String>, collection: &str) -> Result<(), Error> {
    let Some(difference) = difference else { return Ok(()) };
    Err(Error::Setup(format!(
        "the collection `{collection}` does not match the configuration: {difference}; adapt [[embedding]] to the \
         collection, or name another one in qdrant.collection and fill it with `chunk-sync backfill`"
    )))
}

/// The indexes that the collection lacks.
fn missing_indexes(held: &CollectionInfo) -> Vec<(&'static str, FieldType, &'static str)> {
    let strict = held.config.as_ref().and_then(|config| config.strict_mode_config.clone()).unwrap_or_default();
    // A strict mode that refuses unindexed filters in updates also refuses the filter on the version without an index.
    let guard = strict.enabled == Some(true) && strict.unindexed_filtering_update == Some(false);
    let guard = guard.then_some((VERSION, FieldType::Integer, "integer"));
    let wanted = INDEXES.into_iter().chain(guard);
    wanted.filter(|(field, ..)| !held.payload_schema.contains_key(*field)).collect()
}

/// Adds the vectors of models that are new in the configuration, if the server can (1.18 and later). Existing data does
/// not change and remains searchable meanwhile. Returns the collection as it is afterwards.
///
/// # Errors
/// The server's error, if vectors are missing afterwards although the server implements the call.
async fn add_vectors(
    server: &Server,
    collection: &str,
    limits: &Limits,
    held: CollectionInfo,
) -> Result<CollectionInfo, Error> {
    let params = params(&held);
    let new = missing(&params, limits);
    if new.is_empty() || unfit(&params, limits).is_some() {
        return Ok(held);
    }
    let mut refused = None;
    for (name, size) in new {
        match server.call(server.client.create_vector_name(addition(collection, &name, size))).await {
            Ok(_) => info!(collection, vector = name, "vector added"),
            Err(error) if error.is_unknown_call() => return Ok(held),
            Err(error) => refused = Some(error),
        }
    }
    // Another process may have added it first, so the existing collection decides, not the error.
    let now = fetch(server, collection).await?;
    match refused {
        Some(error) if !missing(&self::params(&now), limits).is_empty() => Err(error),
        _ => Ok(now),
    }
}

fn addition(collection: &str, name: &str, size: u64) -> CreateVectorNameRequest {
    let config = DenseVectorCreationConfig { size, distance: Distance::Cosine.into(), ..Default::default() };
    CreateVectorNameRequest {
        collection_name: collection.to_owned(),
        wait: Some(true),
        vector_name: name.to_owned(),
        vector_config: Some(VectorConfig::DenseConfig(config)),
        ..CreateVectorNameRequest::default()
    }
}

/// Fetches the configuration and status of the collection.
///
/// # Errors
/// [`Error::Setup`] if the response is empty; else the error of the call, [`Error::is_not_found`] for a missing
/// collection.
pub(super) async fn fetch(server: &Server, collection: &str) -> Result<CollectionInfo, Error> {
    let answer = server.call(server.client.collection_info(collection)).await?;
    answer.result.ok_or_else(|| {
        Error::Setup(format!(
            "the server returned no description of the collection `{collection}`; check that qdrant.url names a Qdrant \
             server"
        ))
    })
}

fn creation(collection: &str, limits: &Limits) -> CreateCollection {
    let dense =
        |(name, size)| (name, VectorParams { size, distance: Distance::Cosine.into(), ..VectorParams::default() });
    let map = sizes(limits).into_iter().map(dense).collect();
    let sparse = HashMap::from([(SPARSE_VECTOR.to_owned(), SparseVectorParams::default())]);
    CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(Config::ParamsMap(VectorParamsMap { map })) }),
        sparse_vectors_config: Some(SparseVectorConfig { map: sparse }),
        hnsw_config: Some(HnswConfigDiff { m: Some(M), ef_construct: Some(EF_CONSTRUCT), ..HnswConfigDiff::default() }),
        ..CreateCollection::default()
    }
}

fn index(collection: &str, field: &str, kind: FieldType) -> CreateFieldIndexCollection {
    CreateFieldIndexCollection {
        collection_name: collection.to_owned(),
        wait: Some(true),
        field_name: field.to_owned(),
        field_type: Some(kind.into()),
        ..CreateFieldIndexCollection::default()
    }
}

fn params(held: &CollectionInfo) -> CollectionParams {
    held.config.as_ref().and_then(|config| config.params.clone()).unwrap_or_default()
}

/// The named dense vectors of the collection, or the reason why it has none.
fn vectors(held: &CollectionParams) -> Result<&HashMap<String, VectorParams>, String> {
    match held.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref()) {
        Some(Config::ParamsMap(vectors)) => Ok(&vectors.map),
        Some(Config::Params(_)) => Err("its dense vector has no name".to_owned()),
        None => Err("it has no dense vectors".to_owned()),
    }
}

/// The configured vectors that the collection lacks, with their sizes.
fn missing(held: &CollectionParams, limits: &Limits) -> Vec<(String, u64)> {
    let held = vectors(held).ok();
    sizes(limits).into_iter().filter(|(name, _)| held.is_some_and(|held| !held.contains_key(name))).collect()
}

/// The names of the configured vectors that the collection lacks.
///
/// # Errors
/// The first difference from the configuration other than a missing vector.
pub(super) fn compare(held: &CollectionInfo, limits: &Limits) -> Result<Vec<String>, String> {
    let params = params(held);
    match unfit(&params, limits) {
        Some(difference) => Err(difference),
        None => Ok(missing(&params, limits).into_iter().map(|(name, _)| name).collect()),
    }
}

/// The fields of [`INDEXES`] without an index.
pub(super) fn unindexed(held: &CollectionInfo) -> Vec<&'static str> {
    INDEXES.iter().map(|(field, ..)| *field).filter(|field| !held.payload_schema.contains_key(*field)).collect()
}

/// The first difference between the collection and the configured models; `None` if it matches.
fn differs(held: &CollectionParams, limits: &Limits) -> Option<String> {
    let missing = || {
        let (name, size) = missing(held, limits).into_iter().next()?;
        Some(format!(
            "it has no vector `{name}`, which is configured with {size} numbers, and a server older than 1.18 cannot \
             add it"
        ))
    };
    unfit(held, limits).or_else(missing)
}

/// The first difference other than a missing vector.
fn unfit(held: &CollectionParams, limits: &Limits) -> Option<String> {
    if held.sharding_method() == ShardingMethod::Custom {
        return Some("its shards are chosen by keys (custom sharding), and chunk-sync writes without a key".to_owned());
    }
    let wanted = sizes(limits);
    let vectors = match vectors(held) {
        Ok(vectors) => vectors,
        Err(reason) => return Some(reason),
    };
    for (name, size) in &wanted {
        if let Some(difference) = vectors.get(name).and_then(|held| other_vector(name, held, *size)) {
            return Some(difference);
        }
    }
    // Writing a point would delete its other vectors.
    if let Some(extra) = vectors.keys().filter(|name| !wanted.contains_key(*name)).min() {
        return Some(format!("it has a vector `{extra}`, which is not configured"));
    }
    let sparse = held.sparse_vectors_config.as_ref().map(|sparse| &sparse.map);
    match sparse.and_then(|sparse| sparse.keys().find(|name| *name != SPARSE_VECTOR)) {
        Some(extra) => Some(format!("it has a sparse vector `{extra}`, which chunk-sync does not write")),
        None if sparse.is_none_or(HashMap::is_empty) => Some(format!("it has no sparse vector `{SPARSE_VECTOR}`")),
        None => None,
    }
}

fn other_vector(name: &str, held: &VectorParams, size: u64) -> Option<String> {
    if held.size != size {
        return Some(format!("its vector `{name}` has {} numbers, but {size} are configured", held.size));
    }
    if held.distance() != Distance::Cosine {
        return Some(format!("the distance of its vector `{name}` is {}, not Cosine", held.distance().as_str_name()));
    }
    // Verification compares the stored numbers with those written, so no other type may round them.
    let datatype = held.datatype();
    if !matches!(datatype, Datatype::Default | Datatype::Float32) {
        return Some(format!("the type of its vector `{name}` is {}, not Float32", datatype.as_str_name()));
    }
    held.multivector_config.map(|_| format!("its vector `{name}` is a multivector; a single vector is required"))
}

#[cfg(test)]
mod tests;
