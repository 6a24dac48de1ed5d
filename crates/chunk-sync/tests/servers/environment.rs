//! The environment of a test: its own database, stream, collection and graph, a configuration that names them, and direct
//! access to each.

#[path = "environment/bus.rs"]
mod bus;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use chunk_sync_samples::generate::Generator;
use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};
use neo4rs::{ConfigBuilder, Graph, query};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{GetPointsBuilder, PointId};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

/// A busy machine may answer late.
pub(crate) fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(60)))
}

/// Time limit for a change to become visible.
const LIMIT: Duration = Duration::from_secs(60);

/// In batches: an earlier test may have left more than fits into one transaction.
const EMPTY: &str = "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS";

pub(crate) struct Environment {
    // Killed before its directory is removed.
    _server: QdrantServer,
    dir: TempDir,
    /// Prefix of the streams, and part of the names of database, slot and publication.
    pub(crate) name: String,
    /// The URL of the database.
    pub(crate) database: String,
    maintenance: String,
    /// The URL of the Qdrant server.
    pub(crate) qdrant: String,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) graph: Graph,
    pub(crate) vectors: Qdrant,
    _turn: File,
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run `cargo xtask services up`, then `eval \"$(cargo xtask services env)\"`")
    })
}

/// Generated chunks, one JSON object per line.
pub(crate) fn lines(count: usize) -> Vec<String> {
    Generator::new(21).take(count).map(|chunk| chunk.to_string()).collect()
}

/// Peak resident memory of a process, in KiB; nothing if it has ended.
pub(crate) fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().trim_end_matches(" kB").parse().unwrap())
}

/// The answer to `/readyz`, without a runtime; nothing if there is none within 2 s.
pub(crate) fn readiness(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

async fn execute(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("cannot connect to PostgreSQL");
    tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
}

fn client() -> neo4rs::Config {
    let name = |name: &str| variable(&format!("CHUNK_SYNC_TEST_NEO4J_{name}"));
    let builder = ConfigBuilder::default().uri(name("URL")).user(name("USER")).password(name("PASSWORD")).db("neo4j");
    builder.build().unwrap()
}

impl Environment {
    pub(crate) async fn new() -> Self {
        // The community edition has only one database: the tests of all processes use it in turn.
        let lock = std::env::temp_dir().join("chunk-sync-test-neo4j.lock");
        let turn = tokio::task::spawn_blocking(move || {
            let file = File::create(lock).unwrap();
            file.lock().unwrap();
            file
        });
        let turn = turn.await.unwrap();
        let name = Uuid::new_v4().simple().to_string();
        let maintenance = variable("CHUNK_SYNC_TEST_PG18_URL");
        execute(&maintenance, &format!("CREATE DATABASE chunk_sync_{name} TEMPLATE template0")).await;
        let (prefix, _) = maintenance.rsplit_once('/').unwrap();
        let database = format!("{prefix}/chunk_sync_{name}");
        let dir = TempDir::new().unwrap();
        let server = QdrantServer::start(&dir.path().join("qdrant"), &Options::default()).await;
        let (user, password) = (variable("CHUNK_SYNC_TEST_NEO4J_USER"), variable("CHUNK_SYNC_TEST_NEO4J_PASSWORD"));
        let (neo4j, redis) = (variable("CHUNK_SYNC_TEST_NEO4J_URL"), variable("CHUNK_SYNC_TEST_REDIS_URL"));
        let config = format!(
            "http.listen = '127.0.0.1:0'\nlog.level = 'warn'\nwal.dir = '{}/wal'\n\
             postgres.url = '{database}'\npostgres.slot = 'chunk_sync_slot_{name}'\n\
             postgres.publication = 'unified_chunks_pub_{name}'\nqdrant.url = '{}'\n\
             redis.url = '{redis}'\nredis.stream = '{name}:stream'\nredis.dead_stream = '{name}:dead'\n\
             neo4j.url = '{neo4j}'\nneo4j.user = '{user}'\nneo4j.password = '{password}'\n",
            dir.path().display(),
            server.url(),
        );
        std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
        let graph = Graph::connect(client()).unwrap();
        graph.run(query(EMPTY)).await.unwrap();
        let redis =
            redis::Client::open(redis).unwrap().get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
        let vectors = Qdrant::from_url(server.url()).skip_compatibility_check().build().unwrap();
        let qdrant = server.url().to_owned();
        Self { _server: server, dir, name, database, maintenance, qdrant, redis, graph, vectors, _turn: turn }
    }

    /// The directory of the log.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, asserts exit code 0, and returns standard output.
    pub(crate) fn fine(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.program(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{arguments:?} ended with {status}: {out}{err}");
        out.into_owned()
    }

    /// Runs the program to its end, asserts exit code 1 (a finding), and returns its JSON result.
    pub(crate) fn found(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.program(arguments).output().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    /// Starts the service with the log directory of this environment.
    pub(crate) fn go_on(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = self.program(&[&["run", "--json"][..], arguments].concat());
        Run(command.envs(variables.iter().copied()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Starts a service with its own log directory.
    pub(crate) fn start(&self) -> Run {
        let wal = self.dir.path().join(format!("wal-{}", Uuid::new_v4().simple()));
        let mut command = self.program(&["run"]);
        Run(command.env("CHUNK_SYNC__WAL__DIR", wal).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn publish(&self, count: usize) {
        self.publish_lines(&lines(count));
    }

    /// Publishes chunks, one JSON object per line.
    pub(crate) fn publish_lines(&self, lines: &[String]) {
        std::fs::write(self.dir.path().join("in.jsonl"), lines.join("\n")).unwrap();
        self.fine(&["publish", "in.jsonl"]);
    }

    /// Asserts that `verify` finds `chunks` chunks in each store, all equal.
    pub(crate) fn assert_equal(&self, chunks: u64) {
        let report: Value = serde_json::from_str(&self.fine(&["verify", "--json"])).unwrap();
        assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &chunks.into()), "{report}");
        for store in ["postgres", "qdrant", "neo4j"] {
            assert_eq!(report["stores"][store]["count"], chunks, "{store}: {report}");
        }
    }

    /// Waits until `seen` returns true, at most [`LIMIT`].
    pub(crate) async fn visible<F: Future<Output = bool>>(&self, what: &str, seen: impl Fn() -> F) {
        let began = Instant::now();
        while !seen().await {
            assert!(began.elapsed() < LIMIT, "{what}: not visible after {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn sql(&self, statement: &str) {
        execute(&self.database, statement).await;
    }

    /// The content of each row.
    pub(crate) async fn contents(&self) -> BTreeMap<Uuid, String> {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.query("SELECT id, content FROM unified.chunks", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The ids of all rows, in order.
    pub(crate) async fn ids(&self) -> Vec<Uuid> {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.query("SELECT id FROM unified.chunks ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn captured_by_somebody(&self) -> bool {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await.unwrap();
        tokio::spawn(connection);
        let slot = format!("chunk_sync_slot_{}", self.name);
        let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        client.query_opt(active, &[&slot]).await.unwrap().is_some_and(|row| row.get(0))
    }

    /// Number of open gaps in capture.
    pub(crate) async fn gaps(&self) -> i64 {
        self.count("SELECT count(gap) FROM chunk_sync.positions").await
    }

    /// The single number that a query returns.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Deletes everything in the graph.
    pub(crate) async fn lose_nodes(&self) {
        self.graph.run(query(EMPTY)).await.unwrap();
    }

    pub(crate) async fn nodes(&self) -> u64 {
        let mut rows = self.graph.execute(query("MATCH (c:Chunk) RETURN count(c) AS count")).await.unwrap();
        let count: i64 = rows.next().await.unwrap().unwrap().get("count").unwrap();
        u64::try_from(count).unwrap()
    }

    pub(crate) async fn has_node(&self, id: Uuid) -> bool {
        let one = query("MATCH (c:Chunk {id: $id}) RETURN c.id AS id").param("id", id.to_string());
        self.graph.execute(one).await.unwrap().next().await.unwrap().is_some()
    }

    async fn payload(&self, id: Uuid) -> Option<Value> {
        let ids = vec![PointId::from(id.to_string())];
        // The collection does not exist until the service has created it.
        let answer =
            self.vectors.get_points(GetPointsBuilder::new("unified_chunks", ids).with_payload(true)).await.ok()?;
        let point = answer.result.into_iter().next()?;
        Some(point.payload.into_iter().map(|(key, value)| (key, value.into_json())).collect())
    }

    pub(crate) async fn has_point(&self, id: Uuid) -> bool {
        self.payload(id).await.is_some()
    }

    /// Whether a payload field of the point has this text.
    pub(crate) async fn point_is(&self, id: Uuid, field: &str, text: &str) -> bool {
        self.payload(id).await.is_some_and(|payload| payload[field] == text)
    }

    /// Whether a metadata key of the point has this text.
    pub(crate) async fn point_says(&self, id: Uuid, key: &str, text: &str) -> bool {
        self.payload(id).await.is_some_and(|payload| payload["metadata"][key] == text)
    }

    /// The tables of the service and of the application.
    pub(crate) async fn tables(&self) -> Vec<String> {
        let (client, connection) = tokio_postgres::connect(&self.database, NoTls).await.unwrap();
        tokio::spawn(connection);
        let tables =
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('chunk_sync', 'unified')";
        client.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let Self { name, maintenance, .. } = self;
        let (name, maintenance) = (name.clone(), maintenance.clone());
        // A separate runtime: the runtime of the test may wait for this thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let slot = chunk_sync_testkit::drop_slot(&name);
                execute(&maintenance, &slot).await;
                execute(&maintenance, &format!("DROP DATABASE chunk_sync_{name} WITH (FORCE)")).await;
                Graph::connect(client()).unwrap().run(query(EMPTY)).await.unwrap();
            });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

/// A running service, killed when it is dropped.
pub(crate) struct Run(Child);

impl Run {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the service ended before it was killed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM to a service started by [`Environment::go_on`]. Returns its summary.
    pub(crate) fn terminate(mut self) -> Value {
        let asked = Command::new("kill").arg(self.id().to_string()).status().unwrap();
        assert!(asked.success());
        let mut summary = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the service ended with {status}");
        serde_json::from_str(&summary).unwrap()
    }

    /// Waits until the service ends by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "the service did not end within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
