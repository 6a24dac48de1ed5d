//! The scenarios of concurrent changes on embedded stores and on servers: both yield the same chunks as the ports in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::{Embedded, FILE};
use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_connectors::postgres::{PostgresConfig, PostgresLease, PostgresRecords};
use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::Ports;
use chunk_sync_engine::ports::Projection;
use chunk_sync_model::vector::Vector;
use chunk_sync_model::{Limits, State};
use chunk_sync_testkit::memory::World;
use chunk_sync_testkit::scenarios::{DirectClients, Edits, Outcomes, all, edited, play};
use neo4rs::query;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::environment::Environment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_yields_the_same_in_memory_on_disk_and_on_servers() {
    let (now, dir) = (jiff::Timestamp::now().into(), TempDir::new().unwrap());
    let scenarios = all();
    let memory = World::default();
    let expected = play(&scenarios, &memory.ports(), &memory, &dir.path().join("memory"), now).await;
    let embedded = OnDisk::open(&dir.path().join("embedded"));
    let on_disk = play(&scenarios, &embedded.ports, &embedded, &dir.path().join("disk"), now).await;
    assert_same(&expected, &on_disk);
    let environment = Environment::new().await;
    let servers = OnServers::open(&environment).await;
    let on_servers = play(&scenarios, &servers.ports, &servers, &dir.path().join("servers"), now).await;
    assert_same(&expected, &on_servers);
}

fn assert_same(expected: &Outcomes, found: &Outcomes) {
    for (name, outcome) in expected {
        assert_eq!(outcome, &found[name], "{name}");
    }
    assert_eq!(expected.len(), found.len());
}

async fn row(ports: &Ports, id: Uuid) -> Arc<State> {
    let row = ports.records.rows_of(&[id]).await.unwrap().pop().flatten();
    row.and_then(|row| row.state).expect("the row does not exist")
}

/// Embedded stores in one directory.
struct OnDisk {
    ports: Ports,
    file: PathBuf,
}

impl OnDisk {
    fn open(dir: &Path) -> Self {
        let embedded = Embedded::open(dir, "test", Arc::new(Limits::default()), MAX_BACKLOG).unwrap();
        let stores: Vec<Arc<dyn Projection>> = vec![embedded.vectors, embedded.graph];
        let records = Arc::clone(&embedded.rows);
        let ports = Ports::new(embedded.bus, records, embedded.rows, embedded.lease, stores);
        Self { ports, file: dir.join(FILE) }
    }

    fn sql(&self, sql: &str, parameters: impl rusqlite::Params) {
        let connection = Connection::open(&self.file).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.execute(sql, parameters).unwrap();
    }
}

#[async_trait]
impl DirectClients for OnDisk {
    async fn row(&self, id: Uuid, edits: Option<&Edits>) {
        let Some(edits) = edits else { return self.sql("DELETE FROM rows WHERE id = ?1", [id]) };
        let chunk = serde_json::to_string(&edited(&*row(&self.ports, id).await, edits).chunk).unwrap();
        self.sql("UPDATE rows SET chunk = ?2 WHERE id = ?1", (id, chunk));
    }

    async fn point(&self, id: Uuid, edits: Option<&Edits>) {
        for (path, value) in edits.into_iter().flatten() {
            match *path {
                "embeddings.dense" => {
                    let numbers: Vec<f32> = serde_json::from_value(value["vector"].clone()).unwrap();
                    let blob: Vec<u8> =
                        Vector::from(numbers).normalised().iter().flat_map(|number| number.to_le_bytes()).collect();
                    self.sql("UPDATE vectors SET vector = ?2 WHERE id = ?1 AND name = 'dense_gte'", (id, blob));
                }
                path => {
                    let field = path.strip_prefix("metadata.").unwrap_or(path);
                    let sql = format!("UPDATE points SET payload = json_set(payload, '$.{field}', ?2) WHERE id = ?1");
                    self.sql(&sql, (id, value.as_str().unwrap()));
                }
            }
        }
        if edits.is_none() {
            self.sql("DELETE FROM vectors WHERE id = ?1", [id]);
            self.sql("DELETE FROM points WHERE id = ?1", [id]);
        }
    }

    async fn node(&self, id: Uuid, edits: Option<&Edits>) {
        for (property, value) in edits.into_iter().flatten() {
            let sql = format!("UPDATE graph_chunks SET {property} = ?2 WHERE id = ?1");
            self.sql(&sql, (id, value.as_str().unwrap()));
        }
        if edits.is_none() {
            self.sql("DELETE FROM graph_chunks WHERE id = ?1", [id]);
        }
    }
}

/// PostgreSQL, Redis, Neo4j, and the test server for Qdrant.
struct OnServers<'a> {
    ports: Ports,
    environment: &'a Environment,
}

impl<'a> OnServers<'a> {
    async fn open(environment: &'a Environment) -> Self {
        let limits = Arc::new(Limits::default());
        let postgres = PostgresConfig::new(environment.database.clone().into(), Arc::clone(&limits));
        let records = Arc::new(PostgresRecords::connect(postgres).await.unwrap());
        let redis = RedisConfig {
            stream: format!("{}:stream", environment.name),
            dead_stream: format!("{}:dead", environment.name),
            ..RedisConfig::new(crate::environment::variable("CHUNK_SYNC_TEST_REDIS_URL").into())
        };
        let vectors = QdrantStore::new(&QdrantConfig::new(environment.qdrant.clone(), limits)).unwrap();
        let neo4j = Neo4jConfig {
            url: crate::environment::variable("CHUNK_SYNC_TEST_NEO4J_URL"),
            user: crate::environment::variable("CHUNK_SYNC_TEST_NEO4J_USER"),
            password: crate::environment::variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD").into(),
            database: "neo4j".to_owned(),
            timeout: Neo4jConfig::TIMEOUT,
            tls: chunk_sync_connectors::TlsFiles::default(),
            allow_insecure: false,
        };
        let stores: Vec<Arc<dyn Projection>> = vec![Arc::new(vectors), Arc::new(Neo4jStore::new(&neo4j).unwrap())];
        let lease = Arc::new(PostgresLease::new(Arc::clone(&records), "none").unwrap());
        let (bus, waiting) = (Arc::new(RedisBus::new(&redis).unwrap()), Arc::clone(&records));
        let ports = Ports::new(bus, records, waiting, lease, stores);
        ports.prepare().await.unwrap();
        Self { ports, environment }
    }
}

#[async_trait]
impl DirectClients for OnServers<'_> {
    async fn row(&self, id: Uuid, edits: Option<&Edits>) {
        let Some(edits) = edits else {
            return self.environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
        };
        let set: Vec<String> = edits
            .iter()
            .map(|(path, value)| match (path.rsplit_once('.'), value.as_str().unwrap()) {
                (None, text) => format!("{path} = '{text}'"),
                (Some((_, "updated_at")), text) => format!("updated_at = '{text}'"),
                (Some((_, key)), text) => format!("metadata = metadata || '{{\"{key}\": \"{text}\"}}'"),
            })
            .collect();
        self.environment.sql(&format!("UPDATE unified.chunks SET {} WHERE id = '{id}'", set.join(", "))).await;
    }

    async fn point(&self, id: Uuid, edits: Option<&Edits>) {
        for (path, value) in edits.into_iter().flatten() {
            match *path {
                "embeddings.dense" => {
                    let numbers: Vec<f32> = serde_json::from_value(value["vector"].clone()).unwrap();
                    // Normalised here: Qdrant's own normalisation may differ in the last bit.
                    self.environment.write_vector(id, Vector::from(numbers).normalised()).await;
                }
                "metadata.updated_at" => self.environment.write_payload(id, json!({ "updated_at": value })).await,
                path => self.environment.write_payload(id, json!({ path: value })).await,
            }
        }
        if edits.is_none() {
            self.environment.delete_points(&[id]).await;
        }
    }

    async fn node(&self, id: Uuid, edits: Option<&Edits>) {
        for (property, value) in edits.into_iter().flatten() {
            let set = query(&format!("MATCH (c:Chunk {{id: $id}}) SET c.{property} = $value"));
            self.environment.cypher(set.param("id", id.to_string()).param("value", value.as_str().unwrap())).await;
        }
        if edits.is_none() {
            self.environment
                .cypher(query("MATCH (c:Chunk {id: $id}) DETACH DELETE c").param("id", id.to_string()))
                .await;
        }
    }
}
