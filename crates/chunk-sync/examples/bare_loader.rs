//! The upper bound for the service's speed: reads the content of PostgreSQL, Qdrant and Neo4j into memory and loads it into
//! all three again, concurrently and with their bulk interfaces: one `COPY`, batches of points, batches of `UNWIND`. It
//! keeps no records, versions, order, log or bus, so no service with guarantees can be as fast.
//!
//! Reads the URLs from the environment, like the service, and removes what it created.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use neo4rs::{BoltType, ConfigBuilder, Graph, query};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    CreateCollection, PointId, PointStruct, ScrollPointsBuilder, UpsertPointsBuilder, Vectors, VectorsOutput,
    vector_output, vectors_output::VectorsOptions,
};
use tokio_postgres::{Client, NoTls};

const BATCH: usize = 1_000;

#[tokio::main]
async fn main() {
    let (rows, points, graph) = (Rows::read().await, Points::read().await, Nodes::read().await);
    let chunks = graph.chunks.len();
    println!("{} bytes of rows, {} points, {chunks} nodes", rows.rows.len(), points.points.len());
    let began = Instant::now();
    let timed = async |load: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        load.await;
        began.elapsed()
    };
    let (postgres, qdrant, neo4j) =
        tokio::join!(timed(Box::pin(rows.load())), timed(Box::pin(points.load())), timed(Box::pin(graph.load())));
    let all = began.elapsed();
    let rate = |time: Duration| chunks as f64 / time.as_secs_f64();
    for (name, time) in [("postgres", postgres), ("qdrant", qdrant), ("neo4j", neo4j), ("all three", all)] {
        println!("{name:9}  {:6.1} s  {:7.0} chunks/s", time.as_secs_f64(), rate(time));
    }
    rows.remove().await;
    points.remove().await;
    graph.remove().await;
}

fn variable(name: &str) -> String {
    std::env::var(format!("CHUNK_SYNC__{name}")).unwrap_or_else(|_| panic!("CHUNK_SYNC__{name} is not set"))
}

struct Rows {
    client: Client,
    rows: Bytes,
}

impl Rows {
    async fn read() -> Self {
        let (client, connection) = tokio_postgres::connect(&variable("POSTGRES__URL"), NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.copy_out("COPY unified.chunks TO STDOUT (FORMAT binary)").await.unwrap();
        let rows: Vec<Bytes> = rows.try_collect().await.unwrap();
        let made = "CREATE SCHEMA bare; CREATE TABLE bare.chunks (LIKE unified.chunks INCLUDING ALL)";
        client.batch_execute(made).await.unwrap();
        Self { client, rows: rows.concat().into() }
    }

    async fn load(&self) {
        let sink = self.client.copy_in("COPY bare.chunks FROM STDIN (FORMAT binary)").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        for at in (0..self.rows.len()).step_by(1 << 16) {
            sink.send(self.rows.slice(at..self.rows.len().min(at + (1 << 16)))).await.unwrap();
        }
        sink.close().await.unwrap();
    }

    async fn remove(&self) {
        self.client.batch_execute("DROP SCHEMA bare CASCADE").await.unwrap();
    }
}

struct Points {
    client: Qdrant,
    points: Vec<PointStruct>,
}

impl Points {
    async fn read() -> Self {
        let client = Qdrant::from_url(&variable("QDRANT__URL")).skip_compatibility_check();
        let client = client.timeout(Duration::from_secs(60)).build().unwrap();
        let of =
            client.collection_info("unified_chunks").await.unwrap().result.unwrap().config.unwrap().params.unwrap();
        let made = CreateCollection {
            collection_name: "bare_chunks".into(),
            vectors_config: of.vectors_config,
            sparse_vectors_config: of.sparse_vectors_config,
            ..CreateCollection::default()
        };
        client.create_collection(made).await.unwrap();
        let (mut points, mut next) = (Vec::new(), None::<PointId>);
        loop {
            let page = ScrollPointsBuilder::new("unified_chunks").limit(1_000).with_payload(true).with_vectors(true);
            let page = match next {
                Some(next) => page.offset(next),
                None => page,
            };
            let page = client.scroll(page).await.unwrap();
            points.extend(page.result.into_iter().map(|point| PointStruct {
                id: point.id,
                payload: point.payload,
                vectors: point.vectors.map(again),
            }));
            next = page.next_page_offset;
            if next.is_none() {
                return Self { client, points };
            }
        }
    }

    async fn load(&self) {
        for points in self.points.chunks(BATCH) {
            let points = UpsertPointsBuilder::new("bare_chunks", points.to_vec()).wait(true);
            self.client.upsert_points(points).await.unwrap();
        }
    }

    async fn remove(&self) {
        self.client.delete_collection("bare_chunks").await.unwrap();
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

/// The graph as lists: nodes as their properties; links and relations as both ends and their properties.
struct Nodes {
    graph: Graph,
    chunks: Vec<BoltType>,
    entities: Vec<BoltType>,
    links: Vec<BoltType>,
    relations: Vec<BoltType>,
}

impl Nodes {
    async fn read() -> Self {
        let config = ConfigBuilder::default()
            .uri(variable("NEO4J__URL"))
            .user(variable("NEO4J__USER"))
            .password(variable("NEO4J__PASSWORD"))
            .db("neo4j");
        let graph = Graph::connect(config.build().unwrap()).unwrap();
        for label in ["BareChunk", "BareEntity"] {
            let made = format!("CREATE CONSTRAINT {label} IF NOT EXISTS FOR (n:{label}) REQUIRE n.id IS UNIQUE");
            graph.run(query(&made)).await.unwrap();
        }
        let chunks = column(&graph, "MATCH (c:Chunk) RETURN properties(c) AS row").await;
        let entities = column(&graph, "MATCH (e:Entity) RETURN properties(e) AS row").await;
        let links = "MATCH (c:Chunk)-[l:CONTAINS_ENTITY]->(e:Entity) RETURN [c.id, e.id, properties(l)] AS row";
        let links = column(&graph, links).await;
        let relations = "MATCH (s:Entity)-[r:RELATES_TO]->(t:Entity) RETURN [s.id, t.id, properties(r)] AS row";
        let relations = column(&graph, relations).await;
        Self { graph, chunks, entities, links, relations }
    }

    async fn load(&self) {
        let match_ends = |source: &str, target: &str, kind: &str| {
            format!(
                "UNWIND $rows AS row MATCH (a:{source} {{id: row[0]}}) MATCH (b:{target} {{id: row[1]}}) \
                 CREATE (a)-[r:{kind}]->(b) SET r = row[2]"
            )
        };
        for (rows, statement) in [
            (&self.entities, "UNWIND $rows AS row CREATE (n:BareEntity) SET n = row".to_owned()),
            (&self.chunks, "UNWIND $rows AS row CREATE (n:BareChunk) SET n = row".to_owned()),
            (&self.links, match_ends("BareChunk", "BareEntity", "BARE_CONTAINS")),
            (&self.relations, match_ends("BareEntity", "BareEntity", "BARE_RELATES")),
        ] {
            for rows in rows.chunks(BATCH) {
                self.graph.run(query(&statement).param("rows", rows.to_vec())).await.unwrap();
            }
        }
    }

    async fn remove(&self) {
        for label in ["BareChunk", "BareEntity"] {
            let removed = format!("MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS");
            self.graph.run(query(&removed)).await.unwrap();
            self.graph.run(query(&format!("DROP CONSTRAINT {label}"))).await.unwrap();
        }
    }
}

async fn column(graph: &Graph, statement: &str) -> Vec<BoltType> {
    let mut rows = graph.execute(query(statement)).await.unwrap();
    let mut values = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        values.push(row.get("row").unwrap());
    }
    values
}
