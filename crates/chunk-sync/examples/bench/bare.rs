//! The limit of the service's speed: reads the content of PostgreSQL, Qdrant and Neo4j into memory and loads it into all
//! three again, concurrently and with their bulk interfaces. It keeps no records, versions, order, log or bus, so no
//! service with guarantees can be as fast.

use std::time::Instant;

use bytes::Bytes;
use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use neo4rs::{Graph, query};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    CreateCollection, CreateFieldIndexCollectionBuilder, FieldType, PayloadSchemaType, PointId, PointStruct,
    ScrollPointsBuilder, UpsertPointsBuilder, Vectors, VectorsOutput, vector_output, vectors_output::VectorsOptions,
};
use serde_json::Value;
use tokio_postgres::Client;

use crate::environment::{Environment, indexed, variable};

/// How the loader sends to Qdrant and Neo4j, without Nagle's algorithm; PostgreSQL gets one `COPY` either way.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// As a script does it: batches of 100, one after the other.
    Plain,
    /// Batches of 500 points in two streams, and of 1,000 nodes.
    Tuned,
}

/// The content of the three stores, and clients to load it again.
pub(crate) struct Bare<'a> {
    rows: Bytes,
    client: &'a Client,
    vectors: &'a Qdrant,
    collection: String,
    points: Vec<PointStruct>,
    graph: &'a Graph,
    fast: Neo4jStore,
    nodes: [Vec<Value>; 4],
}

/// Statements for entities, chunks, links and relations.
const STATEMENTS: [&str; 4] = [
    "UNWIND $rows AS row CREATE (n:BareEntity) SET n = row",
    "UNWIND $rows AS row CREATE (n:BareChunk) SET n = row",
    "UNWIND $rows AS row MATCH (a:BareChunk {id: row[0]}) MATCH (b:BareEntity {id: row[1]})
     CREATE (a)-[r:BARE_CONTAINS]->(b) SET r = row[2]",
    "UNWIND $rows AS row MATCH (a:BareEntity {id: row[0]}) MATCH (b:BareEntity {id: row[1]})
     CREATE (a)-[r:BARE_RELATES]->(b) SET r = row[2]",
];

const CONTENT: [&str; 4] = [
    "MATCH (e:Entity) RETURN properties(e) AS row",
    "MATCH (c:Chunk) RETURN properties(c) AS row",
    "MATCH (c:Chunk)-[l:CONTAINS_ENTITY]->(e:Entity) RETURN [c.id, e.id, properties(l)] AS row",
    "MATCH (s:Entity)-[r:RELATES_TO]->(t:Entity) RETURN [s.id, t.id, properties(r)] AS row",
];

const UPDATE: &str = "UNWIND $rows AS row MATCH (n:BareChunk {id: row.id}) SET n = row, n.updated_at = 'now'";

impl<'a> Bare<'a> {
    pub(crate) async fn read(environment: &'a Environment) -> Self {
        let Environment { rows: client, vectors, graph, collection, .. } = environment;
        let rows = client.copy_out("COPY unified.chunks TO STDOUT (FORMAT binary)").await.unwrap();
        let rows: Vec<Bytes> = rows.try_collect().await.unwrap();
        let made = "CREATE SCHEMA bare; CREATE TABLE bare.chunks (LIKE unified.chunks INCLUDING ALL)";
        client.batch_execute(made).await.unwrap();
        for label in ["BareChunk", "BareEntity"] {
            let made = format!("CREATE CONSTRAINT {label} IF NOT EXISTS FOR (n:{label}) REQUIRE n.id IS UNIQUE");
            graph.run(query(&made)).await.unwrap();
        }
        let mut nodes = [const { Vec::new() }; 4];
        for (rows, statement) in nodes.iter_mut().zip(CONTENT) {
            *rows = column(graph, statement).await;
        }
        let fast = Neo4jStore::new(&Neo4jConfig {
            url: variable("NEO4J_URL"),
            user: variable("NEO4J_USER"),
            password: variable("NEO4J_PASSWORD").into(),
            database: "neo4j".to_owned(),
            timeout: Neo4jConfig::TIMEOUT,
            tls: chunk_sync_connectors::TlsFiles::default(),
            allow_insecure: false,
        });
        let bare = Self {
            rows: rows.concat().into(),
            client,
            vectors,
            collection: format!("{collection}_bare"),
            points: read_points(vectors, collection).await,
            graph,
            fast: fast.unwrap(),
            nodes,
        };
        bare.create_collection(collection).await;
        bare
    }

    async fn create_collection(&self, like: &str) {
        let info = self.vectors.collection_info(like).await.unwrap().result.unwrap();
        let config = info.config.unwrap();
        let parameters = config.params.unwrap();
        let made = CreateCollection {
            collection_name: self.collection.clone(),
            vectors_config: parameters.vectors_config,
            sparse_vectors_config: parameters.sparse_vectors_config,
            hnsw_config: config.hnsw_config,
            ..CreateCollection::default()
        };
        self.vectors.create_collection(made).await.unwrap();
        for (field, schema) in info.payload_schema {
            let kind = match schema.data_type() {
                PayloadSchemaType::Keyword => FieldType::Keyword,
                PayloadSchemaType::Bool => FieldType::Bool,
                PayloadSchemaType::Datetime => FieldType::Datetime,
                other => panic!("an index of the type {other:?}"),
            };
            let index = CreateFieldIndexCollectionBuilder::new(self.collection.as_str(), field, kind).wait(true);
            self.vectors.create_field_index(index).await.unwrap();
        }
    }

    /// Loads everything into all three at once; returns when the vectors are indexed.
    pub(crate) async fn load(&self, way: Way) -> Instant {
        let graph = async {
            for (rows, statement) in self.nodes.iter().zip(STATEMENTS) {
                self.unwind(statement, rows, way).await;
            }
        };
        tokio::join!(self.copy(), self.upsert(way), graph);
        indexed(self.vectors, &self.collection).await
    }

    /// Gives every row, point and node of a chunk new metadata; returns when the vectors are indexed.
    pub(crate) async fn update(&self, way: Way) -> Instant {
        let set = "UPDATE bare.chunks SET metadata = jsonb_set(metadata, '{bench}', to_jsonb(random()))";
        let rows = async { self.client.batch_execute(set).await.unwrap() };
        tokio::join!(rows, self.upsert(way), self.unwind(UPDATE, &self.nodes[1], way));
        indexed(self.vectors, &self.collection).await
    }

    /// Removes what was loaded.
    pub(crate) async fn empty(&self) {
        self.client.batch_execute("TRUNCATE bare.chunks").await.unwrap();
        self.vectors.delete_collection(self.collection.as_str()).await.unwrap();
        for label in ["BareChunk", "BareEntity"] {
            let removed = format!("MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS");
            self.graph.run(query(&removed)).await.unwrap();
        }
        let original = self.collection.trim_end_matches("_bare").to_owned();
        self.create_collection(&original).await;
    }

    pub(crate) async fn remove(&self) {
        self.client.batch_execute("DROP SCHEMA bare CASCADE").await.unwrap();
        self.vectors.delete_collection(self.collection.as_str()).await.unwrap();
        for label in ["BareChunk", "BareEntity"] {
            self.graph.run(query(&format!("DROP CONSTRAINT {label}"))).await.unwrap();
        }
    }

    async fn copy(&self) {
        let sink = self.client.copy_in("COPY bare.chunks FROM STDIN (FORMAT binary)").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        for at in (0..self.rows.len()).step_by(1 << 16) {
            sink.send(self.rows.slice(at..self.rows.len().min(at + (1 << 16)))).await.unwrap();
        }
        sink.close().await.unwrap();
    }

    async fn upsert(&self, way: Way) {
        let (batch, streams) = if way == Way::Plain { (100, 1) } else { (500, 2) };
        let sent = self.points.chunks(batch).map(|points| async {
            let points = UpsertPointsBuilder::new(self.collection.as_str(), points.to_vec()).wait(true);
            self.vectors.upsert_points(points).await.unwrap();
        });
        stream::iter(sent).buffer_unordered(streams).collect::<Vec<()>>().await;
    }

    async fn unwind(&self, statement: &str, rows: &[Value], way: Way) {
        let batch = if way == Way::Plain { 100 } else { 1_000 };
        for rows in rows.chunks(batch) {
            self.fast.unwind(statement, rows).await.unwrap();
        }
    }
}

async fn read_points(vectors: &Qdrant, collection: &str) -> Vec<PointStruct> {
    let (mut points, mut next) = (Vec::new(), None::<PointId>);
    loop {
        let page = ScrollPointsBuilder::new(collection).limit(1_000).with_payload(true).with_vectors(true);
        let page = match next {
            Some(next) => page.offset(next),
            None => page,
        };
        let page = vectors.scroll(page).await.unwrap();
        points.extend(page.result.into_iter().map(|point| PointStruct {
            id: point.id,
            payload: point.payload,
            vectors: point.vectors.map(again),
        }));
        next = page.next_page_offset;
        if next.is_none() {
            return points;
        }
    }
}

/// Converts vectors as read into vectors to write.
fn again(held: VectorsOutput) -> Vectors {
    let Some(VectorsOptions::Vectors(named)) = held.vectors_options else {
        panic!("the point has no named vectors");
    };
    let vector = |vector: qdrant_client::qdrant::VectorOutput| match vector.into_vector() {
        vector_output::Vector::Dense(dense) => qdrant_client::qdrant::Vector::new_dense(dense.data),
        vector_output::Vector::Sparse(sparse) => {
            qdrant_client::qdrant::Vector::new_sparse(sparse.indices, sparse.values)
        }
        vector_output::Vector::MultiDense(_) => panic!("multivectors are not supported"),
    };
    let named: std::collections::HashMap<String, qdrant_client::qdrant::Vector> =
        named.vectors.into_iter().map(|(name, held)| (name, vector(held))).collect();
    named.into()
}

async fn column(graph: &Graph, statement: &str) -> Vec<Value> {
    let mut rows = graph.execute(query(statement)).await.unwrap();
    let mut values = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        values.push(row.get("row").unwrap());
    }
    values
}
