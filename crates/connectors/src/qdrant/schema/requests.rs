//! What `prepare` would do, as requests of the HTTP interface, for people to read.

use std::collections::BTreeMap;

use chunk_sync_model::Limits;
use chunk_sync_model::document::SPARSE_VECTOR;
use qdrant_client::qdrant::CollectionInfo;
use serde_json::json;

use super::{EF_CONSTRUCT, INDEXES, M, differs, fetch, missing, missing_indexes, must_match, params, sizes, unfit};
use crate::qdrant::fault::Error;
use crate::qdrant::server::Server;

/// The requests that [`prepare`](super::prepare) would make now. Creates nothing.
///
/// # Errors
/// As [`prepare`](super::prepare).
pub(in crate::qdrant) async fn requests(
    server: &Server,
    collection: &str,
    limits: &Limits,
) -> Result<Vec<String>, Error> {
    let version = server.version().await?;
    match fetch(server, collection).await {
        Err(error) if error.is_not_found() => Ok(all(collection, limits)),
        held => lacking(&held?, collection, limits, version.adds_vectors()),
    }
}

/// One request that creates the collection, then one for each index.
pub(super) fn all(collection: &str, limits: &Limits) -> Vec<String> {
    let dense = |(name, size)| (name, json!({ "size": size, "distance": "Cosine" }));
    let body = json!({
        "vectors": sizes(limits).into_iter().map(dense).collect::<BTreeMap<_, _>>(),
        "sparse_vectors": { SPARSE_VECTOR: {} },
        "hnsw_config": { "m": M, "ef_construct": EF_CONSTRUCT },
    });
    let indexes = INDEXES.map(|(field, _, kind)| index(collection, field, kind));
    std::iter::once(format!("PUT /collections/{collection} {body}")).chain(indexes).collect()
}

/// One request for each vector and each index that the collection lacks.
pub(super) fn lacking(
    held: &CollectionInfo,
    collection: &str,
    limits: &Limits,
    adds_vectors: bool,
) -> Result<Vec<String>, Error> {
    let held_params = params(held);
    must_match(if adds_vectors { unfit(&held_params, limits) } else { differs(&held_params, limits) }, collection)?;
    let vector = |(name, size): (String, u64)| {
        let body = json!({ "dense": { "size": size, "distance": "Cosine" } });
        format!("PUT /collections/{collection}/vectors/{name}?wait=true {body}")
    };
    let vectors = missing(&held_params, limits).into_iter().map(vector);
    let indexes = missing_indexes(held).into_iter().map(|(field, _, kind)| index(collection, field, kind));
    Ok(vectors.chain(indexes).collect())
}

fn index(collection: &str, field: &str, kind: &str) -> String {
    let body = json!({ "field_name": field, "field_schema": kind });
    format!("PUT /collections/{collection}/index?wait=true {body}")
}
