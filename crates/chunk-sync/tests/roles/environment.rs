//! The environment of a test: its own database, stream, graph and directory, a configuration that names some of them, and
//! direct access to each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chunk_sync_samples::generate::Generator;
use neo4rs::{ConfigBuilder, Graph, query};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

/// A busy machine may answer late.
fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(60)))
}

/// Time limit for a change to become visible.
const LIMIT: Duration = Duration::from_secs(60);

/// In batches: an earlier test may have left more than fits into one transaction.
const EMPTY: &str = "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS";

/// A role that is kept in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Postgres,
    Redis,
    Neo4j,
}

pub(crate) struct Environment {
    dir: TempDir,
    /// Part of the names of database, slot, publication and stream.
    pub(crate) name: String,
    stream: String,
    /// The URL of the database.
    database: String,
    roles: Vec<Role>,
    /// Locked while the test uses the only database of Neo4j's community edition; a neighbour shares it.
    _turn: Option<File>,
}

pub(crate) fn variable(name: &str) -> String {
    let name = format!("CHUNK_SYNC_TEST_{name}");
    std::env::var(&name).unwrap_or_else(|_| {
        panic!("{name} is not set; run `cargo xtask services up`, then `eval \"$(cargo xtask services env)\"`")
    })
}

pub(crate) async fn execute(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("cannot connect to PostgreSQL");
    tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
}

fn graph() -> Graph {
    let (url, user, password) = (variable("NEO4J_URL"), variable("NEO4J_USER"), variable("NEO4J_PASSWORD"));
    let config = ConfigBuilder::default().uri(url).user(user).password(password).db("neo4j").build().unwrap();
    Graph::connect(config).unwrap()
}

impl Environment {
    pub(crate) async fn new(roles: &[Role]) -> Self {
        let lock = std::env::temp_dir().join("chunk-sync-test-neo4j.lock");
        let turn = tokio::task::spawn_blocking(move || {
            let file = File::create(lock).unwrap();
            file.lock().unwrap();
            file
        });
        let turn = turn.await.unwrap();
        graph().run(query(EMPTY)).await.unwrap();
        Self::with(roles, Uuid::new_v4().simple().to_string(), Some(turn)).await
    }

    /// Another installation that is configured for the same stream and graph.
    pub(crate) async fn neighbour(&self, roles: &[Role]) -> Self {
        let mut environment = Self::with(roles, Uuid::new_v4().simple().to_string(), None).await;
        environment.use_stream(&self.stream);
        environment
    }

    async fn with(roles: &[Role], name: String, turn: Option<File>) -> Self {
        execute(&variable("PG18_URL"), &format!("CREATE DATABASE chunk_sync_{name} TEMPLATE template0")).await;
        let maintenance = variable("PG18_URL");
        let (prefix, _) = maintenance.rsplit_once('/').unwrap();
        let (stream, database) = (format!("{name}:stream"), format!("{prefix}/chunk_sync_{name}"));
        let dir = TempDir::new().unwrap();
        let mut environment = Self { dir, name, stream, database, roles: Vec::new(), _turn: turn };
        environment.configure(roles);
        environment
    }

    /// Writes a configuration that names exactly these servers.
    pub(crate) fn configure(&mut self, roles: &[Role]) {
        self.roles = roles.to_vec();
        let Self { dir, name, stream, database, .. } = &*self;
        let mut config = format!(
            "http.listen = '127.0.0.1:0'\nlog.level = 'warn'\nscrub.enabled = false\nembedded.dir = '{0}/data'\n\
             wal.dir = '{0}/wal'\n",
            dir.path().display()
        );
        for role in roles {
            config += &match role {
                Role::Postgres => format!(
                    "postgres.url = '{database}'\npostgres.slot = 'chunk_sync_slot_{name}'\n\
                     postgres.publication = 'unified_chunks_pub_{name}'\n"
                ),
                Role::Redis => format!(
                    "redis.url = '{}'\nredis.stream = '{stream}'\nredis.dead_stream = '{name}:dead'\n",
                    variable("REDIS_URL")
                ),
                Role::Neo4j => format!(
                    "neo4j.url = '{}'\nneo4j.user = '{}'\nneo4j.password = '{}'\n",
                    variable("NEO4J_URL"),
                    variable("NEO4J_USER"),
                    variable("NEO4J_PASSWORD")
                ),
            };
        }
        std::fs::write(self.dir.path().join("chunk-sync.toml"), config).unwrap();
    }

    /// Adds a line to the configuration.
    pub(crate) fn also(&self, line: &str) {
        let mut file = File::options().append(true).open(self.dir.path().join("chunk-sync.toml")).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    pub(crate) fn use_stream(&mut self, stream: &str) {
        stream.clone_into(&mut self.stream);
        self.configure(&self.roles.clone());
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn use_database(&mut self, url: String) {
        self.database = url;
        self.configure(&self.roles.clone());
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The URL of the database.
    pub(crate) fn database(&self) -> String {
        self.database.clone()
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
        command.current_dir(self.dir.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, asserts exit code 0, and returns its JSON result.
    pub(crate) fn fine(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.program(arguments).arg("--json").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{arguments:?} ended with {status}: {out}{err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Runs the program to its end, asserts exit code 2 (wrong configuration), and returns standard error.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.program(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!(status.code(), Some(2), "{arguments:?}: {out}{err}");
        err.into_owned()
    }

    pub(crate) fn start(&self) -> Service {
        Service(self.program(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts a service with these variables; its log goes to the log of the test.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Service {
        let mut command = self.program(&["run"]);
        Service(command.envs(variables.iter().copied()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn publish(&self, count: usize) {
        self.publish_lines(&lines(count));
    }

    /// Publishes chunks, one JSON object per line.
    pub(crate) fn publish_lines(&self, lines: &[String]) {
        std::fs::write(self.dir.path().join("in.jsonl"), lines.join("\n")).unwrap();
        self.fine(&["publish", "in.jsonl"]);
    }

    /// Waits until the bus has neither unread nor pending entries.
    pub(crate) fn settled(&self) {
        within("nothing waits", || {
            let status = self.fine(&["status"]);
            status["unread"] == 0 && status["pending"] == 0
        });
    }

    /// Waits until more than 20 rows exist.
    pub(crate) async fn until_some_are_carried(&self) {
        within("more than 20 rows", || self.fine(&["status"])["chunks"]["postgres"].as_u64().unwrap() > 20);
    }

    pub(crate) async fn sql(&self, statement: &str) {
        execute(&self.database(), statement).await;
    }

    /// The single number that a query returns.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.database(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Waits until a query returns at least this number.
    pub(crate) async fn count_reaches(&self, query: &str, least: i64) {
        let began = Instant::now();
        while self.count(query).await < least {
            assert!(began.elapsed() < LIMIT, "{query}: not within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a repair that leaves something for the operator; returns its report.
    pub(crate) fn repaired(&self) -> Value {
        let output = self.program(&["verify", "--repair", "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until every row is captured and all stores are consistent.
    pub(crate) async fn until_captured(&self) {
        within("the changes are captured", || {
            let Output { stdout, .. } = self.program(&["verify", "--json"]).output().unwrap();
            serde_json::from_slice::<Value>(&stdout).is_ok_and(|report| report["consistent"] == true)
        });
    }

    /// Asserts that `verify` finds `chunks` chunks in each configured store, all equal.
    pub(crate) fn assert_equal(&self, chunks: usize) {
        let report = self.fine(&["verify"]);
        assert_eq!((&report["consistency"], &report["chunks"]), (&100.0.into(), &chunks.into()), "{report}");
        let stores = report["stores"].as_object().unwrap();
        assert_eq!(stores.contains_key("neo4j"), self.has(Role::Neo4j), "{report}");
        assert!(stores.values().all(|store| store["count"] == chunks), "{report}");
    }

    /// Runs a statement in the graph.
    pub(crate) async fn cypher(&self, statement: &str) {
        graph().run(query(statement)).await.unwrap();
    }

    /// Number of chunks in the graph.
    pub(crate) async fn nodes(&self) -> u64 {
        let mut rows = graph().execute(query("MATCH (c:Chunk) RETURN count(c) AS count")).await.unwrap();
        let count: i64 = rows.next().await.unwrap().unwrap().get("count").unwrap();
        u64::try_from(count).unwrap()
    }

    /// The version of each chunk in the graph.
    pub(crate) async fn versions(&self) -> BTreeMap<String, i64> {
        let nodes = query("MATCH (c:Chunk) RETURN c.id AS id, c.sync_version AS version");
        let (mut rows, mut versions) = (graph().execute(nodes).await.unwrap(), BTreeMap::new());
        while let Some(row) = rows.next().await.unwrap() {
            versions.insert(row.get("id").unwrap(), row.get("version").unwrap());
        }
        versions
    }

    /// Those of the chunks that the graph lacks.
    pub(crate) async fn missing(&self, ids: &[Uuid]) -> Vec<Uuid> {
        let mut rows = graph().execute(query("MATCH (c:Chunk) RETURN c.id AS id")).await.unwrap();
        let mut found = std::collections::BTreeSet::new();
        while let Some(row) = rows.next().await.unwrap() {
            found.insert(row.get::<String>("id").unwrap());
        }
        ids.iter().filter(|id| !found.contains(&id.to_string())).copied().collect()
    }

    /// Waits until the graph has at least this number of chunks.
    pub(crate) async fn until_nodes(&self, what: &str, count: u64) {
        let began = Instant::now();
        while self.nodes().await < count {
            assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Deletes the id of the installation from Neo4j and Redis.
    pub(crate) async fn forget_marks(&self) {
        self.cypher("MATCH (n:ChunkSyncInstallation) DELETE n").await;
        let redis = redis::Client::open(variable("REDIS_URL")).unwrap();
        let mut redis = redis.get_multiplexed_async_connection_with_config(&patient()).await.unwrap();
        redis::cmd("DEL").arg(format!("{}:installation", self.stream)).exec_async(&mut redis).await.unwrap();
    }
}

/// Generated chunks, one JSON object per line.
pub(crate) fn lines(count: usize) -> Vec<String> {
    Generator::new(21).take(count).map(|chunk| chunk.to_string()).collect()
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn within(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A separate runtime: the runtime of the test may wait for this thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let slot = chunk_sync_testkit::drop_slot(&name);
                execute(&variable("PG18_URL"), &slot).await;
                execute(&variable("PG18_URL"), &format!("DROP DATABASE chunk_sync_{name} WITH (FORCE)")).await;
            });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

/// A running service, killed when it is dropped.
pub(crate) struct Service(Child);

impl Service {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the service ended before it was killed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(asked.success());
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the service ended with {status}");
    }

    /// Waits until the service ends by itself with an error. Returns standard error.
    pub(crate) fn ended(mut self) -> String {
        within("the service ends", || self.0.try_wait().unwrap().is_some());
        let mut error = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(!self.0.wait().unwrap().success(), "{error}");
        error
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
