//! The collections service: create, describe, list and delete.

use std::collections::HashMap;
use std::time::Instant;

use ::qdrant_client::qdrant::collections_server::Collections;
use ::qdrant_client::qdrant::vectors_config::Config;
use ::qdrant_client::qdrant::*;
use ::qdrant_edge::{
    EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, HnswIndexConfig, PayloadSchemaType as Schema,
};
use tonic::{Request, Response, Status};

use crate::service::{blocking, seconds, service};

service! { Collections {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let begun = Instant::now();
        let info = self.on_collection(request.into_inner().collection_name, |engine| Ok(describe(engine))).await?;
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: seconds(begun) }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Result<Response<ListCollectionsResponse>, Status> {
        let collections = self.engines.names().into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let config = config(&request)?;
        let engines = std::sync::Arc::clone(&self.engines);
        blocking(move || engines.create(&request.collection_name, config)).await?;
        Ok(done(true, begun))
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let begun = Instant::now();
        let engines = std::sync::Arc::clone(&self.engines);
        let deleted = blocking(move || engines.delete(&request.into_inner().collection_name)).await?;
        Ok(done(deleted, begun))
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let exists = self.engines.get(&request.into_inner().collection_name).is_ok();
        Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: 0.0 }))
    }

    async fn update_aliases(
        &self,
        request: Request<ChangeAliases>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let begun = Instant::now();
        let aliases = std::sync::Arc::clone(&self.aliases);
        blocking(move || aliases.change(request.into_inner().actions)).await?;
        Ok(done(true, begun))
    }

    async fn list_collection_aliases(
        &self,
        request: Request<ListCollectionAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        let name = request.into_inner().collection_name;
        self.engines.get(&name)?;
        Ok(listed(self.aliases.list(Some(&name))))
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Result<Response<ListAliasesResponse>, Status> {
        Ok(listed(self.aliases.list(None)))
    }
} refused {
    update: UpdateCollection => CollectionOperationResponse,
    collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse,
    update_collection_cluster_setup:
        UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse,
    create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse,
    delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse,
    list_shard_keys: ListShardKeysRequest => ListShardKeysResponse,
} }

fn listed(aliases: Vec<(String, String)>) -> Response<ListAliasesResponse> {
    let description = |(alias_name, collection_name)| AliasDescription { alias_name, collection_name };
    Response::new(ListAliasesResponse { aliases: aliases.into_iter().map(description).collect(), time: 0.0 })
}

fn done(result: bool, begun: Instant) -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result, time: seconds(begun) })
}

/// The distances, in the protocol and in the engine.
pub(crate) const DISTANCES: [(Distance, qdrant_edge::Distance); 4] = [
    (Distance::Cosine, qdrant_edge::Distance::Cosine),
    (Distance::Euclid, qdrant_edge::Distance::Euclid),
    (Distance::Dot, qdrant_edge::Distance::Dot),
    (Distance::Manhattan, qdrant_edge::Distance::Manhattan),
];

/// The types of payload indexes: in a request, in a description, and in the engine.
pub(crate) const KINDS: [(FieldType, PayloadSchemaType, Schema); 8] = [
    (FieldType::Keyword, PayloadSchemaType::Keyword, Schema::Keyword),
    (FieldType::Integer, PayloadSchemaType::Integer, Schema::Integer),
    (FieldType::Float, PayloadSchemaType::Float, Schema::Float),
    (FieldType::Geo, PayloadSchemaType::Geo, Schema::Geo),
    (FieldType::Text, PayloadSchemaType::Text, Schema::Text),
    (FieldType::Bool, PayloadSchemaType::Bool, Schema::Bool),
    (FieldType::Datetime, PayloadSchemaType::Datetime, Schema::Datetime),
    (FieldType::Uuid, PayloadSchemaType::Uuid, Schema::Uuid),
];

fn config(request: &CreateCollection) -> Result<EdgeConfig, Status> {
    let Some(Config::ParamsMap(vectors)) = request.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref())
    else {
        return Err(Status::unimplemented("the test server supports only named vectors"));
    };
    let dense = |(name, params): (&String, &VectorParams)| {
        let distance = DISTANCES.iter().find(|(told, _)| *told == params.distance());
        let (_, distance) = distance.ok_or_else(|| Status::invalid_argument("a vector has no distance"))?;
        let size = usize::try_from(params.size).unwrap_or(usize::MAX);
        Ok::<_, Status>((name.clone(), EdgeVectorParams::builder(size, *distance).build()))
    };
    let sparse = request.sparse_vectors_config.iter().flat_map(|sparse| sparse.map.keys());
    let sparse = sparse.map(|name| (name.clone(), EdgeSparseVectorParams::builder().build()));
    let hnsw = request.hnsw_config.unwrap_or_default();
    let default = HnswIndexConfig::default();
    let or = |told: Option<u64>, default| told.and_then(|told| usize::try_from(told).ok()).unwrap_or(default);
    Ok(EdgeConfig {
        vectors: vectors.map.iter().map(dense).collect::<Result<_, _>>()?,
        sparse_vectors: sparse.collect(),
        hnsw_config: HnswIndexConfig {
            m: or(hnsw.m, default.m),
            ef_construct: or(hnsw.ef_construct, default.ef_construct),
            ..default
        },
        ..EdgeConfig::default()
    })
}

fn describe(engine: &EdgeShard) -> CollectionInfo {
    let (config, info) = (engine.config(), engine.info());
    let dense = |(name, held): (&String, &EdgeVectorParams)| {
        let distance = DISTANCES.iter().find(|(_, engines)| *engines == held.distance);
        let distance = distance.map_or(Distance::UnknownDistance, |(told, _)| *told).into();
        (name.clone(), VectorParams { size: held.size as u64, distance, ..VectorParams::default() })
    };
    let map = config.vectors.iter().map(dense).collect();
    let sparse: HashMap<_, _> =
        config.sparse_vectors.keys().map(|name| (name.clone(), SparseVectorParams::default())).collect();
    let hnsw = HnswConfigDiff {
        m: Some(config.hnsw_config.m as u64),
        ef_construct: Some(config.hnsw_config.ef_construct as u64),
        ..HnswConfigDiff::default()
    };
    let params = CollectionParams {
        shard_number: 1,
        vectors_config: Some(VectorsConfig { config: Some(Config::ParamsMap(VectorParamsMap { map })) }),
        sparse_vectors_config: Some(SparseVectorConfig { map: sparse }),
        ..CollectionParams::default()
    };
    let indexes = info.payload_schema.iter().map(|(name, index)| {
        let kind = KINDS.iter().find(|(_, _, engines)| *engines == index.data_type);
        let data_type = kind.map_or(PayloadSchemaType::UnknownType, |(_, told, _)| *told).into();
        (name.to_string(), PayloadSchemaInfo { data_type, params: None, points: Some(index.points as u64) })
    });
    CollectionInfo {
        status: CollectionStatus::Green.into(),
        optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
        segments_count: info.segments_count as u64,
        config: Some(CollectionConfig { params: Some(params), hnsw_config: Some(hnsw), ..CollectionConfig::default() }),
        payload_schema: indexes.collect(),
        points_count: Some(info.points_count as u64),
        indexed_vectors_count: Some(info.indexed_vectors_count as u64),
        ..CollectionInfo::default()
    }
}
