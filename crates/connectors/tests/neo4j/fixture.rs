//! Exclusive use of the test database, a builder for chunks, and direct access to the database past the store.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_connectors::TlsFiles;
use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_model::{State, SyncVersion};
use chunk_sync_testkit::Fixture;
use neo4rs::{Config, ConfigBuilder, Graph, Query, Row, query};
use serde_json::{Value, json};
use uuid::Uuid;

const EMPTY: &str = "MATCH (n) WITH n LIMIT 5000 DETACH DELETE n RETURN count(n) AS count";

pub(crate) struct Neo4j {
    pub(crate) store: Arc<Neo4jStore>,
    pub(crate) raw: Graph,
    _turn: File,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set; start a Neo4j for these tests alone, because they delete all its data, and set \
             CHUNK_SYNC_TEST_NEO4J_URL (bolt://127.0.0.1:7687), _USER and _PASSWORD"
        )
    })
}

pub(crate) fn config() -> Neo4jConfig {
    Neo4jConfig {
        url: variable("CHUNK_SYNC_TEST_NEO4J_URL"),
        user: variable("CHUNK_SYNC_TEST_NEO4J_USER"),
        password: variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD").into(),
        database: "neo4j".to_owned(),
        timeout: Neo4jConfig::TIMEOUT,
        tls: TlsFiles::default(),
        allow_insecure: false,
    }
}

fn client() -> Config {
    let password = variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD");
    let builder = ConfigBuilder::default().uri(config().url).user(config().user).password(password).db("neo4j");
    builder.build().unwrap()
}

/// Waits for exclusive use of the database. The community edition has only one, so tests of all processes take turns:
/// the holder of the lock on the returned file has the database until it closes the file.
async fn turn() -> File {
    let path = std::env::temp_dir().join("chunk-sync-test-neo4j.lock");
    let wait = move || {
        let file = File::create(path).unwrap();
        file.lock().unwrap();
        file
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[async_trait]
impl Fixture for Neo4j {
    type Port = dyn Projection;

    async fn fresh() -> Self {
        let store = Arc::new(Neo4jStore::new(&config()).unwrap());
        let turn = turn().await;
        store.check().await.expect("the Neo4j at CHUNK_SYNC_TEST_NEO4J_URL must accept writes");
        let raw = Graph::connect(client()).unwrap();
        let fixture = Self { store, raw, _turn: turn };
        while fixture.rows(query(EMPTY)).await[0].get::<i64>("count").unwrap() > 0 {}
        fixture.store.prepare().await.unwrap();
        fixture
    }

    fn port(&self) -> Arc<dyn Projection> {
        self.store.clone()
    }

    async fn reopen(&mut self) {
        self.store = Arc::new(Neo4jStore::new(&config()).unwrap());
    }
}

impl Drop for Neo4j {
    /// Empties the database before the lock is released.
    fn drop(&mut self) {
        // In its own runtime, because the runtime of the test may be blocked on this thread.
        let emptied = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { Graph::connect(client()).unwrap().run(query("MATCH (n) DETACH DELETE n")).await })
        });
        assert!(matches!(emptied.join(), Ok(Ok(_))) || std::thread::panicking());
    }
}

impl Neo4j {
    /// Runs a statement, commits it, and returns its rows.
    pub(crate) async fn rows(&self, query: Query) -> Vec<Row> {
        let mut stream = self.raw.execute(query).await.unwrap();
        let mut rows = Vec::new();
        while let Some(row) = stream.next().await.unwrap() {
            rows.push(row);
        }
        rows
    }

    /// Runs a statement as another client of the database.
    pub(crate) async fn write_directly(&self, statement: &str) {
        self.raw.run(query(statement)).await.unwrap();
    }

    /// The column `value` of each row of a statement, which must be text.
    pub(crate) async fn texts(&self, statement: &str) -> Vec<String> {
        self.rows(query(statement)).await.iter().map(|row| row.get("value").unwrap()).collect()
    }

    pub(crate) async fn write(&self, writes: &[Write]) {
        for (write, applied) in writes.iter().zip(self.store.apply(writes).await) {
            assert!(matches!(applied, Applied::Written), "{}: {applied:?}", write.id);
        }
    }

    /// The fields in which the stored chunk differs from what was written.
    pub(crate) async fn differing(&self, write: &Write) -> Vec<String> {
        let seen =
            self.store.fetch_documents(&[write.id]).await.unwrap().remove(0).expect("the store must hold the chunk");
        seen.document.differing(&self.store.expect(write.state.as_ref().unwrap()))
    }
}

/// A chunk under construction. All properties that a test does not set are the same for every chunk.
pub(crate) struct Draft(Value);

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn draft(number: u128) -> Draft {
    Draft(json!({
        "id": id(number),
        "system_origin": "claude",
        "content": "a chunk with something in it",
        "chunk_type": "text",
        "source": {"type": "file"},
        "location": {"start_char": 0, "end_char": 28, "chunk_index": 0},
        "graph": {"entities": [], "relationships": []},
        "organization": {},
        "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z"},
    }))
}

impl Draft {
    /// Adds an entity at the source positions 3 and 7.
    pub(crate) fn entity(self, id: &str, name: &str, confidence: f64) -> Self {
        self.entity_at(id, name, confidence, &[3, 7])
    }

    pub(crate) fn entity_at(mut self, id: &str, name: &str, confidence: f64, positions: &[u64]) -> Self {
        let entity = json!({"id": id, "type": "concept", "name": name, "confidence": confidence,
            "source_positions": positions});
        self.0["graph"]["entities"].as_array_mut().unwrap().push(entity);
        self
    }

    pub(crate) fn relation(mut self, source: &str, target: &str, confidence: f64) -> Self {
        let relation = json!({"source_entity_id": source, "target_entity_id": target, "type": "references",
            "confidence": confidence});
        self.0["graph"]["relationships"].as_array_mut().unwrap().push(relation);
        self
    }

    pub(crate) fn times(mut self, created: &str, updated: &str) -> Self {
        self.0["metadata"] = json!({"created_at": created, "updated_at": updated});
        self
    }

    pub(crate) fn organization(mut self, organization: Value) -> Self {
        self.0["organization"] = organization;
        self
    }

    pub(crate) fn at(self, version: u64) -> Write {
        write(self.0, version)
    }
}

pub(crate) fn write(chunk: Value, version: u64) -> Write {
    let chunk = serde_json::from_value(chunk).unwrap();
    let state = State { chunk, embedding_stale: false };
    let version = SyncVersion::new(version);
    Write { id: state.chunk.id, version, state: Some(Arc::new(state)), vectors_since: version }
}

pub(crate) fn delete(number: u128, version: u64) -> Write {
    let version = SyncVersion::new(version);
    Write { id: id(number), version, state: None, vectors_since: version }
}
