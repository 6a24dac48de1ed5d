//! What good clients do all the time: a publisher adds events, and an application writes rows by SQL.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::installation::Installation;
use crate::environment::Environment;

/// Chunks of each of the two clients.
const CHUNKS: u64 = 150;

/// Changes of each client per second.
const RATE: u32 = 25;

/// What must be true in the end.
#[derive(Default)]
pub(crate) struct Expected {
    /// The content of each living chunk.
    pub(crate) contents: BTreeMap<Uuid, String>,
    /// Entries that must become dead letters.
    pub(crate) malformed: HashSet<String>,
    /// Chunks each of which must have a dead letter.
    pub(crate) refused: HashSet<Uuid>,
    pub(crate) changes: u64,
}

pub(crate) struct Application {
    expected: Arc<Mutex<Expected>>,
    /// Held for writing by a trouble during which the application would stop its writes, such as a maintenance of the table.
    pub(crate) maintenance: Arc<RwLock<()>>,
    /// Held for writing by a trouble during which no event is published.
    pub(crate) silence: Arc<RwLock<()>>,
    stop: watch::Sender<bool>,
    writing: Vec<JoinHandle<()>>,
}

/// The id of a chunk that the publisher owns.
pub(crate) fn published(number: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("published {}", number % CHUNKS).as_bytes())
}

fn written(number: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("written {}", number % CHUNKS).as_bytes())
}

/// The fields of an event with this chunk.
pub(crate) fn fields(kind: &str, chunk: &serde_json::Value) -> Vec<(&'static str, String)> {
    vec![
        ("event_id", Uuid::new_v4().to_string()),
        ("type", kind.to_owned()),
        ("source", "claude".to_owned()),
        ("targets", r#"["postgres","qdrant","neo4j"]"#.to_owned()),
        ("timestamp", jiff::Timestamp::now().to_string()),
        ("chunk", chunk.to_string()),
    ]
}

/// A chunk with this content, changed now.
pub(crate) fn chunk(id: Uuid, content: &str) -> serde_json::Value {
    json!({
        "id": id, "system_origin": "claude", "content": content, "chunk_type": "text", "source": { "type": "api" },
        "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 }, "organization": {},
        "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": jiff::Timestamp::now().to_string() },
        "graph": { "entities": [
            { "id": "field", "type": "concept", "name": "field", "confidence": 0.5, "source_positions": [] },
        ] },
    })
}

impl Application {
    pub(crate) async fn start(installation: &Installation, seed: u64) -> Self {
        let environment = &installation.environment;
        let expected = Arc::new(Mutex::new(Expected::default()));
        expected.lock().unwrap().contents = environment.contents().await;
        let (stop, stopped) = watch::channel(false);
        let (maintenance, silence) = (Arc::default(), Arc::default());
        let client = |seed| Writer {
            environment: Arc::clone(environment),
            expected: Arc::clone(&expected),
            maintenance: Arc::clone(&maintenance),
            silence: Arc::clone(&silence),
            stopped: stopped.clone(),
            random: fastrand::Rng::with_seed(seed),
        };
        let writing = vec![tokio::spawn(client(seed).publish()), tokio::spawn(client(!seed).write())];
        Self { expected, maintenance, silence, stop, writing }
    }

    pub(crate) fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap()
    }

    /// Ends both clients. Returns what must be true.
    pub(crate) async fn stop(self) -> Expected {
        self.stop.send_replace(true);
        for client in self.writing {
            client.await.unwrap();
        }
        std::mem::take(&mut self.expected.lock().unwrap())
    }
}

/// One of the two clients.
struct Writer {
    environment: Arc<Environment>,
    expected: Arc<Mutex<Expected>>,
    maintenance: Arc<RwLock<()>>,
    silence: Arc<RwLock<()>>,
    stopped: watch::Receiver<bool>,
    random: fastrand::Rng,
}

impl Writer {
    async fn publish(mut self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
        while !*self.stopped.borrow() {
            ticks.tick().await;
            let (id, delete) = (published(self.random.u64(..)), self.random.u8(..10) == 0);
            let content = format!("published text {}", self.random.u64(..));
            let known = self.expected.lock().unwrap().contents.contains_key(&id);
            let kind = match (delete, known) {
                (true, _) => "delete",
                (false, true) => "update",
                (false, false) => "create",
            };
            let turn = self.silence.read().await;
            self.environment.add(&fields(kind, &chunk(id, &content))).await;
            drop(turn);
            self.note(id, (!delete).then_some(content));
        }
    }

    async fn write(mut self) {
        let database = format!("{}?application_name=the%20application", self.environment.database);
        let (client, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
        while !*self.stopped.borrow() {
            ticks.tick().await;
            let (id, delete) = (written(self.random.u64(..)), self.random.u8(..10) == 0);
            let content = format!("written text {}", self.random.u64(..));
            let turn = self.maintenance.read().await;
            write(&client, id, (!delete).then_some(&content)).await;
            drop(turn);
            self.note(id, (!delete).then_some(content));
        }
    }

    fn note(&self, id: Uuid, content: Option<String>) {
        let mut expected = self.expected.lock().unwrap();
        expected.changes += 1;
        match content {
            Some(content) => expected.contents.insert(id, content),
            None => expected.contents.remove(&id),
        };
    }
}

/// Writes or deletes a row as an application does. Its statements must never fail.
async fn write(client: &Client, id: Uuid, content: Option<&String>) {
    let upsert = "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
                  VALUES ($1, $2, 'text', now(), now())
                  ON CONFLICT (id) DO UPDATE SET content = excluded.content, updated_at = now()";
    let done = match content {
        Some(content) => client.execute(upsert, &[&id, content]).await,
        None => client.execute("DELETE FROM unified.chunks WHERE id = $1", &[&id]).await,
    };
    done.expect("a write of the application failed");
}
