//! One round's own database, stream, collection and graph, and the program that works them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};
use neo4rs::{ConfigBuilder, Graph, query};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::CollectionStatus;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Time limit of everything that is waited for.
const LIMIT: Duration = Duration::from_secs(900);

/// How long no vector waits for its index before all of them count as indexed.
const INDEXED_FOR: Duration = Duration::from_secs(1);

const EMPTY: &str = "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS";

pub(crate) struct Environment {
    _server: Option<QdrantServer>,
    dir: TempDir,
    name: String,
    database: String,
    maintenance: String,
    pub(crate) collection: String,
    port: u16,
    pub(crate) rows: Client,
    redis: MultiplexedConnection,
    pub(crate) graph: Graph,
    pub(crate) vectors: Qdrant,
    _turn: File,
}

/// The URL, user or password of a server.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(format!("CHUNK_SYNC_TEST_{name}"))
        .unwrap_or_else(|_| panic!("CHUNK_SYNC_TEST_{name} is not set; run `cargo xtask bench`"))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("cannot connect to PostgreSQL");
    tokio::spawn(connection);
    client
}

impl Environment {
    /// Another connection to the rows.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.database).await
    }

    pub(crate) async fn new() -> Self {
        // The community edition has only one database: tests and measurements use it in turn.
        let turn = File::create(std::env::temp_dir().join("chunk-sync-test-neo4j.lock")).unwrap();
        turn.lock().unwrap();
        let name = Uuid::new_v4().simple().to_string();
        let maintenance = variable("PG18_URL");
        let made = format!("CREATE DATABASE chunk_sync_{name} TEMPLATE template0");
        connect(&maintenance).await.batch_execute(&made).await.unwrap();
        let database = format!("{}/chunk_sync_{name}", maintenance.rsplit_once('/').unwrap().0);
        let dir = TempDir::new().unwrap();
        let (server, qdrant) = match std::env::var("QDRANT_URL") {
            Ok(url) => (None, url),
            Err(_) => {
                let server = QdrantServer::start(&dir.path().join("qdrant"), &Options::default()).await;
                let url = server.url().to_owned();
                (Some(server), url)
            }
        };
        let (user, password) = (variable("NEO4J_USER"), variable("NEO4J_PASSWORD"));
        let (neo4j, redis) = (variable("NEO4J_URL"), variable("REDIS_URL"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let collection = format!("bench_{name}");
        let config = format!(
            "http.listen = '127.0.0.1:{port}'\nlog.level = 'warn'\nwal.dir = '{}/wal'\nscrub.enabled = false\n\
             postgres.url = '{database}'\npostgres.slot = 'chunk_sync_slot_{name}'\n\
             postgres.publication = 'pub_{name}'\nqdrant.url = '{qdrant}'\nqdrant.collection = '{collection}'\n\
             redis.url = '{redis}'\nredis.stream = '{name}:stream'\nredis.dead_stream = '{name}:dead'\n\
             neo4j.url = '{neo4j}'\nneo4j.user = '{user}'\nneo4j.password = '{password}'\n",
            dir.path().display(),
        );
        std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
        let settings = ConfigBuilder::default().uri(neo4j).user(user).password(password).db("neo4j");
        let graph = Graph::connect(settings.build().unwrap()).unwrap();
        graph.run(query(EMPTY)).await.unwrap();
        let redis = redis::Client::open(redis).unwrap().get_multiplexed_async_connection().await.unwrap();
        let vectors = Qdrant::from_url(&qdrant).skip_compatibility_check().timeout(LIMIT).build().unwrap();
        let rows = connect(&database).await;
        let environment = Self {
            _server: server,
            dir,
            name,
            database,
            maintenance,
            collection,
            port,
            rows,
            redis,
            graph,
            vectors,
            _turn: turn,
        };
        environment.fine(&["init"]);
        environment
    }

    fn program(&self, arguments: &[&str]) -> Command {
        // Beside the directory of the examples.
        let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("chunk-sync");
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, asserts exit code 0, and returns standard output.
    pub(crate) fn fine(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.program(arguments).output().expect("build the program first");
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{arguments:?} ended with {status}: {out}{err}");
        out.into_owned()
    }

    /// The report of `verify`, which must find no difference.
    pub(crate) fn verify(&self) -> Value {
        let report: Value = serde_json::from_str(&self.fine(&["verify", "--json"])).unwrap();
        assert_eq!(report["consistent"], true, "{report}");
        report
    }

    pub(crate) fn publish(&self, lines: &[String]) {
        std::fs::write(self.dir.path().join("in.jsonl"), lines.join("\n")).unwrap();
        self.fine(&["publish", "in.jsonl"]);
    }

    /// Starts the service and waits until it is ready; returns it with the time that this took.
    pub(crate) async fn run(&self) -> (Run, Duration) {
        let began = Instant::now();
        let run = Run(self.program(&["run"]).stdout(Stdio::null()).spawn().unwrap());
        until("readiness", || self.is_ready()).await;
        (run, began.elapsed())
    }

    async fn is_ready(&self) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        ask.await.is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200"))
    }

    /// The numbers of entries that were added to the stream, and that are unread or pending.
    pub(crate) async fn stream(&self) -> (u64, u64) {
        let mut redis = self.redis.clone();
        let mut info = async |of: &str| {
            redis::cmd("XINFO").arg(of).arg(format!("{}:stream", self.name)).query_async(&mut redis).await.unwrap()
        };
        // The group first: what it reads afterwards counts as unread.
        let groups: Vec<HashMap<String, redis::Value>> = redis::from_redis_value(info("GROUPS").await).unwrap();
        let stream: HashMap<String, redis::Value> = redis::from_redis_value(info("STREAM").await).unwrap();
        let number = |map: &HashMap<String, redis::Value>, key: &str| -> u64 {
            map.get(key).cloned().and_then(|value| redis::from_redis_value(value).ok()).unwrap_or_default()
        };
        let added = number(&stream, "entries-added");
        let group = &groups[0];
        (added, added.saturating_sub(number(group, "entries-read")) + number(group, "pending"))
    }

    /// Waits until so many entries were added to the stream and all are finished and in every store.
    pub(crate) async fn settled(&self, added: u64) {
        until("an empty stream", || async {
            let (all, open) = self.stream().await;
            all >= added && open == 0
        })
        .await;
        // What a slow store did not get yet waits there, although its entry is finished.
        let waiting = "SELECT count(*) FROM chunk_sync.outbox";
        until("an empty outbox", || async { self.rows.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 })
            .await;
    }

    /// Waits until every vector is indexed, and returns since when it is.
    pub(crate) async fn indexed(&self) -> Instant {
        indexed(&self.vectors, &self.collection).await
    }

    /// Bytes of the record of a chunk, as PostgreSQL stores it.
    pub(crate) async fn record_size(&self, id: &str) -> f64 {
        let sql = "SELECT pg_column_size(record)::float8 FROM chunk_sync.records WHERE id = $1::text::uuid";
        self.rows.query_one(sql, &[&id]).await.unwrap().get(0)
    }

    pub(crate) async fn versions(&self) -> BTreeMap<&'static str, String> {
        let postgres: String = self.rows.query_one("SHOW server_version", &[]).await.unwrap().get(0);
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut self.redis.clone()).await.unwrap();
        let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().to_owned();
        let qdrant = self.vectors.health_check().await.unwrap().version;
        let qdrant = if self._server.is_some() { format!("test server, as {qdrant}") } else { qdrant };
        let asked = "CALL dbms.components() YIELD versions RETURN versions[0] AS version";
        let row = self.graph.execute(query(asked)).await.unwrap().next().await.unwrap().unwrap();
        let neo4j: String = row.get("version").unwrap();
        [("postgres", postgres), ("redis", redis), ("qdrant", qdrant), ("neo4j", neo4j)].into()
    }
}

/// Waits until Qdrant has indexed every vector of the collection, and returns since when it has.
///
/// It indexes in the background, long after it took the last point: a load that ended before that is not comparable.
pub(crate) async fn indexed(vectors: &Qdrant, collection: &str) -> Instant {
    let began = Instant::now();
    let mut since = began;
    // An optimiser may start some time after the last write.
    while since.elapsed() < INDEXED_FOR {
        let info = vectors.collection_info(collection).await.unwrap().result.unwrap();
        if info.status() != CollectionStatus::Green {
            since = Instant::now();
        }
        assert!(began.elapsed() < LIMIT, "the index of {collection}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    since
}

/// Waits until `done` returns true.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let Self { name, maintenance, database, .. } = self;
        let (name, maintenance, database) = (name.clone(), maintenance.clone(), database.clone());
        let (vectors, graph, collection) = (self.vectors.clone(), self.graph.clone(), self.collection.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let slot = format!("SELECT pg_drop_replication_slot('chunk_sync_slot_{name}')");
                until("the end of capture", || async { connect(&database).await.batch_execute(&slot).await.is_ok() })
                    .await;
                let dropped = format!("DROP DATABASE chunk_sync_{name} WITH (FORCE)");
                connect(&maintenance).await.batch_execute(&dropped).await.unwrap();
                let _ = vectors.delete_collection(collection).await;
                graph.run(query(EMPTY)).await.unwrap();
            });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

/// A running service, killed when it is dropped.
pub(crate) struct Run(Child);

impl Run {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// The largest resident size so far, in MiB.
    pub(crate) fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kilobytes: f64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
        kilobytes / 1024.0
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
