//! Direct writes to the servers with their own clients, bypassing the service.

use std::collections::HashMap;

use neo4rs::Query;
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    DeletePointsBuilder, GetPointsBuilder, PointId, PointStruct, PointsIdsList, SetPayloadPointsBuilder,
    UpsertPointsBuilder, Vector, vectors_output::VectorsOptions,
};
use serde_json::Value;
use uuid::Uuid;

use crate::environment::Environment;

const COLLECTION: &str = "unified_chunks";

fn points(ids: &[Uuid]) -> PointsIdsList {
    PointsIdsList { ids: ids.iter().map(|id| id.to_string().into()).collect() }
}

fn named(vector: Vec<f32>) -> HashMap<String, Vector> {
    HashMap::from([("dense_gte".to_owned(), Vector::new_dense(vector))])
}

impl Environment {
    pub(crate) async fn write_payload(&self, id: Uuid, payload: Value) {
        let payload = Payload::try_from(payload).unwrap();
        let set = SetPayloadPointsBuilder::new(COLLECTION, payload).points_selector(points(&[id])).wait(true);
        self.vectors.set_payload(set).await.unwrap();
    }

    /// Writes the dense vector of a point, and keeps its sparse vector and payload.
    pub(crate) async fn write_vector(&self, id: Uuid, numbers: Vec<f32>) {
        let get = GetPointsBuilder::new(COLLECTION, vec![PointId::from(id.to_string())]);
        let found = self.vectors.get_points(get.with_payload(true).with_vectors(true)).await.unwrap();
        let point = found.result.into_iter().next().expect("the point does not exist");
        let Some(VectorsOptions::Vectors(held)) = point.vectors.and_then(|vectors| vectors.vectors_options) else {
            panic!("the point has no named vectors");
        };
        assert!(held.vectors.contains_key("dense_gte"), "{:?}", held.vectors.keys());
        let mut vectors = named(numbers);
        for (name, vector) in held.vectors {
            if let qdrant_client::qdrant::vector_output::Vector::Sparse(sparse) = vector.into_vector() {
                vectors.insert(name, Vector::new_sparse(sparse.indices, sparse.values));
            }
        }
        self.upsert(PointStruct::new(id.to_string(), vectors, Payload::from(point.payload))).await;
    }

    /// Adds a point without a row.
    pub(crate) async fn add_point(&self, id: Uuid) {
        self.upsert(PointStruct::new(id.to_string(), named(vec![0.5; 768]), Payload::default())).await;
    }

    async fn upsert(&self, point: PointStruct) {
        self.vectors.upsert_points(UpsertPointsBuilder::new(COLLECTION, vec![point]).wait(true)).await.unwrap();
    }

    pub(crate) async fn delete_points(&self, ids: &[Uuid]) {
        let delete = DeletePointsBuilder::new(COLLECTION).points(points(ids)).wait(true);
        self.vectors.delete_points(delete).await.unwrap();
    }

    /// Deletes every key of this test in Redis, as after the loss of its disk.
    pub(crate) async fn empty_streams(&self) {
        let mut redis = self.redis.clone();
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("{}:*", self.name)).query_async(&mut redis).await.unwrap();
        let lost: u64 = redis::cmd("DEL").arg(&keys).query_async(&mut redis).await.unwrap();
        assert_eq!(lost, keys.len() as u64);
    }

    pub(crate) async fn cypher(&self, statement: Query) {
        self.graph.run(statement).await.unwrap();
    }
}
