//! A separate database and streams per test, processes of the program on them, and direct access to both.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::process::Process;

/// A busy machine may answer late.
fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(60)))
}

/// Timeout of every wait.
const LIMIT: Duration = Duration::from_secs(60);

/// What carries the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bus {
    Redis,
    /// The table beside the rows.
    Table,
}

pub(crate) struct Environment {
    dir: TempDir,
    name: String,
    bus: Bus,
    pub(crate) database: String,
    maintenance: String,
    client: Client,
    redis: MultiplexedConnection,
    /// The one chunk whose versions are published.
    pub(crate) chunk: Uuid,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run `cargo xtask services up`, then `eval $(cargo xtask services env)`")
    })
}

/// The content of the chunk in this version.
pub(crate) fn content_of(version: u32) -> String {
    format!("version {version:04}")
}

fn time_of(version: u32) -> String {
    format!("2026-01-01T00:{:02}:{:02}Z", version / 60, version % 60)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL does not answer");
    tokio::spawn(connection);
    client
}

impl Environment {
    /// An installation with rows and bus and no other store.
    pub(crate) async fn new(bus: Bus) -> Self {
        Self::with(bus, "").await
    }

    /// An installation with these lines in its configuration beside rows and bus.
    pub(crate) async fn with(bus: Bus, settings: &str) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let (maintenance, redis) = (variable("CHUNK_SYNC_TEST_PG18_URL"), variable("CHUNK_SYNC_TEST_REDIS_URL"));
        let create = format!("CREATE DATABASE chunk_sync_{name} TEMPLATE template0");
        connect(&maintenance).await.batch_execute(&create).await.unwrap();
        let (prefix, _) = maintenance.rsplit_once('/').unwrap();
        let database = format!("{prefix}/chunk_sync_{name}");
        let dir = TempDir::new().unwrap();
        let mut config = format!(
            "http.listen = '127.0.0.1:0'\nlog.level = 'info'\npostgres.url = '{database}'\n\
             postgres.slot = 'chunk_sync_slot_{name}'\npostgres.publication = 'unified_chunks_pub_{name}'\n{settings}"
        );
        if bus == Bus::Redis {
            config.push_str(&format!(
                "redis.url = '{redis}'\nredis.stream = '{name}:stream'\nredis.dead_stream = '{name}:dead'\n"
            ));
        }
        std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
        let redis =
            redis::Client::open(redis).unwrap().get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
        let client = connect(&database).await;
        let env = Self { dir, name, bus, database, maintenance, client, redis, chunk: Uuid::new_v4() };
        let initialized = env.program().arg("init").stdout(Stdio::null()).status().unwrap();
        assert!(initialized.success(), "`init` ended with {initialized}");
        env
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Starts a process with its log in the directory `log`.
    pub(crate) fn start(&self, log: &str, arguments: &[&str]) -> Process {
        self.spawn(log, arguments, None)
    }

    /// Like [`Self::start`], with another URL of the server of this section.
    pub(crate) fn start_at(&self, log: &str, section: &str, url: &str) -> Process {
        self.spawn(log, &[], Some((&format!("CHUNK_SYNC__{section}__URL"), url)))
    }

    fn spawn(&self, log: &str, arguments: &[&str], variable: Option<(&str, &str)>) -> Process {
        let mut command = self.program();
        command.args(["run", "--json"]).args(arguments);
        command.env("CHUNK_SYNC__WAL__DIR", self.dir.path().join(log)).stdout(Stdio::piped());
        command.envs(variable);
        Process(command.spawn().unwrap())
    }

    /// Publishes these versions of the chunk, in ascending order.
    pub(crate) async fn publish(&self, versions: RangeInclusive<u32>) {
        for version in versions {
            self.event("update", version, &self.chunk_of(version)).await;
        }
    }

    /// Publishes this version of the chunk with a vector that no other version has.
    pub(crate) async fn publish_with_vector(&self, version: u32) {
        let vector: Vec<f32> = (0..768).map(|i| if i == version { 1.0 } else { 0.0 }).collect();
        let mut chunk = self.chunk_of(version);
        chunk["embeddings"] = json!({"dense": {"model": "gte", "vector": vector, "timestamp": time_of(version)}});
        self.event("update", version, &chunk).await;
    }

    /// Publishes the deletion of the chunk as this version.
    pub(crate) async fn delete(&self, version: u32) {
        self.event("delete", version, &json!({"id": self.chunk})).await;
    }

    fn chunk_of(&self, version: u32) -> Value {
        json!({
            "id": self.chunk, "system_origin": "claude", "content": content_of(version),
            "chunk_type": "text", "source": {"type": "api"}, "organization": {},
            "location": {"start_char": 0, "end_char": 12, "chunk_index": 0},
            "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": time_of(version)},
        })
    }

    async fn event(&self, kind: &str, version: u32, chunk: &Value) {
        self.add(&[
            ("event_id", Uuid::new_v4().to_string()),
            ("type", kind.to_owned()),
            ("source", "claude".to_owned()),
            ("timestamp", time_of(version)),
            ("targets", r#"["postgres"]"#.to_owned()),
            ("chunk", chunk.to_string()),
        ])
        .await;
    }

    /// Adds an entry as any client may.
    async fn add(&self, fields: &[(&str, String)]) {
        match self.bus {
            Bus::Redis => {
                let mut command = redis::cmd("XADD");
                command.arg(format!("{}:stream", self.name)).arg("*").arg(fields);
                command.exec_async(&mut self.redis.clone()).await.unwrap();
            }
            Bus::Table => {
                let in_turn = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
                let in_turn: Vec<&[u8]> = in_turn.collect();
                self.client.execute("INSERT INTO chunk_sync.bus (fields) VALUES ($1)", &[&in_turn]).await.unwrap();
            }
        }
    }

    /// Waits until the row has that version. Fails if the row goes back to an older one.
    pub(crate) async fn shows(&self, version: u32) {
        let wanted = content_of(version);
        let mut newest = String::new();
        let began = Instant::now();
        loop {
            let rows = self.client.query("SELECT content FROM unified.chunks WHERE id = $1", &[&self.chunk]).await;
            let row = rows.ok().and_then(|rows| rows.first().map(|row| row.get::<_, String>(0)));
            if let Some(content) = row {
                assert!(content >= newest, "the row went back from {newest} to {content}");
                newest = content;
            }
            if newest == wanted {
                return;
            }
            assert!(began.elapsed() < LIMIT, "the row shows {newest:?}, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Id of the process that holds the lease; waits until one does.
    pub(crate) async fn holder(&self) -> u32 {
        let began = Instant::now();
        loop {
            let lease = "SELECT holder FROM chunk_sync.lease WHERE token IS NOT NULL";
            if let Ok(Some(row)) = self.client.query_opt(lease, &[]).await {
                let holder: String = row.get(0);
                return holder.rsplit(' ').next().unwrap().parse().unwrap();
            }
            assert!(began.elapsed() < LIMIT, "no process holds the lease");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_holder(&self, process: u32) {
        self.until(&format!("the lease of {process}"), async || self.holder().await == process).await;
    }

    /// Waits until nothing on the stream is unread or pending.
    pub(crate) async fn is_finished(&self) {
        self.until("an empty bus", async || {
            if self.bus == Bus::Table {
                return self.count("SELECT count(*) FROM chunk_sync.bus").await == 0;
            }
            let mut info = redis::cmd("XINFO");
            info.arg("GROUPS").arg(format!("{}:stream", self.name));
            let groups: Vec<HashMap<String, redis::Value>> = info.query_async(&mut self.redis.clone()).await.unwrap();
            let number = |name: &str| redis::from_redis_value::<u64>(groups[0][name].clone()).unwrap();
            number("pending") + number("lag") == 0
        })
        .await;
    }

    pub(crate) async fn dead_letters(&self) -> u64 {
        if self.bus == Bus::Table {
            return self.count("SELECT count(*) FROM chunk_sync.dead").await.unsigned_abs();
        }
        redis::cmd("XLEN").arg(format!("{}:dead", self.name)).query_async(&mut self.redis.clone()).await.unwrap()
    }

    async fn count(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Waits until this is true.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < LIMIT, "timed out after {LIMIT:?} waiting for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let (name, maintenance) = (self.name.clone(), self.maintenance.clone());
        // A separate runtime: the runtime of the test may be waiting for this thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&maintenance).await;
                let slot = chunk_sync_testkit::drop_slot(&name);
                client.batch_execute(&slot).await.unwrap();
                client.batch_execute(&format!("DROP DATABASE chunk_sync_{name} WITH (FORCE)")).await.unwrap();
            });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}
