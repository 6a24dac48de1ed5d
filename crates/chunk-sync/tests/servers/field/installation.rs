//! The installation under test: a service whose role is no superuser, links that can fail, and a supervisor.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::environment::{Environment, peak, readiness, variable};
use crate::proxy::{Proxy, port_of};

/// Login of the service. It owns the table, is no superuser, and has no BYPASSRLS.
const ROLE: &str = "chunk_sync_field";

/// The least number of characters of a published chunk that is right.
pub(crate) const LEAST_CHARS: u64 = 10;

/// Lines of the service's log that are shown after a failure.
const LINES: usize = 200;

/// Time limit for everything to settle after the last trouble.
const SETTLED: Duration = Duration::from_secs(180);

pub(crate) struct Installation {
    pub(crate) environment: Arc<Environment>,
    pub(crate) redis: Proxy,
    pub(crate) qdrant: Proxy,
    pub(crate) neo4j: Proxy,
    /// Port of the service's HTTP server.
    pub(crate) http: u16,
    variables: Vec<(String, String)>,
    pub(crate) service: Arc<Service>,
    supervisor: JoinHandle<()>,
}

/// The process, restarted when it ends.
#[derive(Default)]
pub(crate) struct Service {
    child: Mutex<Option<Child>>,
    starts: AtomicU64,
    /// The least number of characters of a published chunk.
    least_chars: AtomicU64,
}

impl Service {
    /// Peak resident memory of the running process, in KiB; 0 between two processes.
    pub(crate) async fn peak(&self) -> u64 {
        let Some(id) = self.child.lock().await.as_ref().map(Child::id) else { return 0 };
        peak(id).unwrap_or(0)
    }
}

impl Installation {
    pub(crate) async fn new() -> Self {
        let environment = Arc::new(Environment::new().await);
        let role = format!(
            "DO $$ BEGIN CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD 'field';
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             CREATE EXTENSION IF NOT EXISTS vector;
             GRANT CREATE ON DATABASE chunk_sync_{} TO {ROLE}",
            environment.name
        );
        environment.sql(&role).await;
        let (_, address) = environment.database.rsplit_once('@').unwrap();
        let postgres = format!("postgres://{ROLE}:field@{address}");
        let (redis_url, neo4j_url) = (variable("CHUNK_SYNC_TEST_REDIS_URL"), variable("CHUNK_SYNC_TEST_NEO4J_URL"));
        let redis = Proxy::to(port_of(&redis_url)).await;
        let qdrant = Proxy::to(port_of(&environment.qdrant)).await;
        let neo4j = Proxy::to(port_of(&neo4j_url)).await;
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let variables = vec![
            ("CHUNK_SYNC__POSTGRES__URL".to_owned(), postgres),
            ("CHUNK_SYNC__REDIS__URL".to_owned(), redis.url(&redis_url)),
            ("CHUNK_SYNC__QDRANT__URL".to_owned(), qdrant.url(&environment.qdrant)),
            ("CHUNK_SYNC__NEO4J__URL".to_owned(), neo4j.url(&neo4j_url)),
            ("CHUNK_SYNC__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{http}")),
        ];
        let service = Arc::new(Service { least_chars: AtomicU64::new(LEAST_CHARS), ..Service::default() });
        let supervisor = tokio::spawn(async {});
        let mut installation = Self { environment, redis, qdrant, neo4j, http, variables, service, supervisor };
        installation.fine(&["init"]);
        installation.supervisor = tokio::spawn(installation.supervise());
        installation.environment.visible("capture", || installation.environment.captured_by_somebody()).await;
        installation
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.program(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that must succeed; returns standard output.
    pub(crate) fn fine(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?} ended with {}: {out}{err}", output.status);
        out.into_owned()
    }

    /// Starts the service whenever it does not run, as systemd does.
    fn supervise(&self) -> impl Future<Output = ()> + use<> {
        let service = Arc::clone(&self.service);
        let log = self.environment.log().with_file_name("service.log");
        let mut command = self.command(&["run"]);
        async move {
            loop {
                let mut child = service.child.lock().await;
                let runs = child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none());
                if !runs {
                    let log = File::options().create(true).append(true).open(&log).unwrap();
                    let least = service.least_chars.load(Ordering::Relaxed).to_string();
                    command.env("CHUNK_SYNC__LIMITS__CONTENT_MIN_CHARS", least);
                    command.stdout(Stdio::null()).stderr(log);
                    *child = Some(command.spawn().unwrap());
                    service.starts.fetch_add(1, Ordering::Relaxed);
                }
                drop(child);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// How often the service was started.
    pub(crate) fn starts(&self) -> u64 {
        self.service.starts.load(Ordering::Relaxed)
    }

    pub(crate) async fn process(&self) -> u32 {
        self.service.child.lock().await.as_ref().expect("the service was started").id()
    }

    /// Sends a signal such as `KILL` to the service.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.process().await.to_string();
        // It fails if the process has ended by itself: the supervisor starts it again.
        let _ = Command::new("kill").args([&format!("-{name}"), &id]).stderr(Stdio::null()).status().unwrap();
    }

    /// Restarts the service with this least number of characters of a published chunk.
    pub(crate) async fn restart_with_least(&self, chars: u64) {
        self.service.least_chars.store(chars, Ordering::Relaxed);
        self.signal("TERM").await;
    }

    /// What the service reports about its readiness.
    pub(crate) async fn readiness(&self) -> String {
        ask(self.http, "/readyz").await.unwrap_or_default()
    }

    /// Number of entries that the group has finished, over all time.
    pub(crate) async fn acknowledged(&self) -> u64 {
        let groups = self.environment.info("GROUPS").await;
        let field = |name: &str| -> u64 { redis::from_redis_value(groups[0][name].clone()).unwrap_or(0) };
        field("entries-read").saturating_sub(field("pending"))
    }

    /// Whether the service answers its health check.
    pub(crate) async fn is_healthy(&self) -> bool {
        ask(self.http, "/healthz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Waits until bus, waiting events and outbox are empty and capture runs.
    pub(crate) async fn assert_settled(&self) {
        let began = Instant::now();
        let mut quiet = 0;
        // Twice in a row: between the two looks every captured change has become an entry.
        while quiet < 2 {
            let output = self.command(&["status", "--json"]).output().unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            assert!(began.elapsed() < SETTLED, "not settled after {SETTLED:?}: {status:#}\n{}", self.log());
            quiet = if self.is_quiet(&status).await { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn is_quiet(&self, status: &Value) -> bool {
        let behind = "SELECT count(*) FROM pg_replication_slots
                      WHERE database = current_database() AND (NOT active OR confirmed_flush_lsn < pg_current_wal_lsn() - 4096)";
        let left = "SELECT (SELECT count(*) FROM chunk_sync.outbox) + (SELECT count(*) FROM chunk_sync.waiting)";
        let (queue, dead) = (&status["queue"]["unread"], &status["queue"]["pending"]);
        queue == 0 && dead == 0 && self.environment.count(left).await == 0 && self.environment.count(behind).await == 0
    }

    /// The end of the service's log.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.environment.log().with_file_name("service.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Repairs what troubles damaged in the stores by hand. Returns the number of chunks that differed.
    pub(crate) async fn repair(&self) -> u64 {
        let output = self.command(&["verify", "--repair", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert!(output.status.success(), "{report:#}");
        report["repair"]["plan"].as_array().map_or(0, |plan| plan.len() as u64)
    }
}

/// The answer of the service to a request for this path; nothing if there is none within 2 s.
pub(crate) async fn ask(port: u16, path: &str) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?.ok()
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.command(&["status"]).output().unwrap();
            eprintln!("the end of the log of the service:\n{}", self.log());
            eprintln!("{}", String::from_utf8_lossy(&status.stdout));
            if let Some(readiness) = readiness(self.http) {
                eprintln!("{readiness}");
            }
        }
        self.supervisor.abort();
        if let Ok(mut child) = self.service.child.try_lock()
            && let Some(child) = child.as_mut()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
