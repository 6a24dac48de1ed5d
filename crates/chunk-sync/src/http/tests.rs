//! Tests of the server over real connections, with the real engine and an in-memory bus and in-memory stores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod capture;
mod client;
mod limits;
mod live;
mod ports;
mod publishing;
mod showing;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chunk_sync_engine::absence::GuardState;
use chunk_sync_engine::ports::{Installed, StoreSet};
use chunk_sync_engine::{
    Capturing, Clock, FillState, Health, Ports, Publisher, Service, Settings, WalSettings, WorkerSettings,
};
use chunk_sync_model::{Limits, Target};
use chunk_sync_testkit::memory::{MemoryCapture, MemoryRecords};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{App, serve};
use crate::config::Http;
use crate::status::LastVerification;
use crate::telemetry::install_metrics;
use client::{Answer, Request};
use ports::{World, store};

const SECRET: &str = "correct-horse-battery-staple";

/// A running service and its HTTP server.
struct Server {
    address: SocketAddr,
    world: Arc<World>,
    service: Arc<Service>,
    publisher: Publisher,
    verified: LastVerification,
    end: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    dir: TempDir,
    _capturing: Option<Capturing>,
}

/// What most servers of these tests do not have.
#[derive(Default)]
struct Extra {
    /// The bound on requests; zero for none.
    requests_per_second: u32,
    /// The log that is captured, and the clock of its capture.
    capture: Option<(MemoryCapture, Clock)>,
}

impl Server {
    /// Starts a server without a token.
    async fn open() -> Self {
        Self::start(World::default(), TempDir::new().unwrap(), None).await
    }

    /// Starts a server with the token [`SECRET`].
    async fn guarded() -> Self {
        Self::start(World::default(), TempDir::new().unwrap(), Some(SECRET)).await
    }

    async fn start(world: World, dir: TempDir, token: Option<&str>) -> Self {
        Self::start_with(world, dir, token, Extra::default()).await
    }

    async fn start_with(world: World, dir: TempDir, token: Option<&str>, extra: Extra) -> Self {
        let world = Arc::new(world);
        let memory = MemoryRecords::default();
        let (lease, stores) = (memory.lease("test"), vec![store(&world, Target::Qdrant), store(&world, Target::Neo4j)]);
        let (bus, records) = (Arc::clone(&world), Arc::clone(&world));
        let ports = Ports::new(bus, records, Arc::new(memory), Arc::new(lease), stores);
        chunk_sync_engine::metrics::show_all(&ports.targets());
        let publisher = Publisher::new(Arc::clone(&ports.bus), Arc::new(Limits::default()));
        let service = Arc::new(Service::start(ports.clone(), settings(&dir)).await.unwrap());
        let capturing = extra.capture.map(|(log, clock)| {
            let (ports, publisher) = (Ports { clock, ..ports.clone() }, publisher.clone());
            Capturing::start(Arc::new(log), ports, publisher, Arc::new(settings(&dir)), service.leadership())
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let verified = LastVerification::default();
        let app = App {
            roles: "embedded".to_owned(),
            installed: Installed {
                id: uuid::Uuid::max(),
                version: 1,
                stores: StoreSet::default(),
                filling: BTreeSet::new(),
                floor: chunk_sync_model::SyncVersion::default(),
            },
            guard: GuardState::default(),
            filling: FillState::default(),
            file: None,
            service: Arc::clone(&service),
            ports,
            publisher: publisher.clone(),
            metrics: install_metrics(),
            http: Http {
                listen: address,
                token: token.map(Into::into),
                hosts: vec!["sync.example.org".into()],
                requests_per_second: extra.requests_per_second,
            },
            verified: verified.clone(),
            capture: capturing.as_ref().map(Capturing::monitor),
        };
        let (end, ended) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = ended.await;
        };
        let serving = tokio::spawn(serve(listener, app, shutdown));
        Self { address, world, service, publisher, verified, end, serving, dir, _capturing: capturing }
    }

    async fn get(&self, target: &str) -> Answer {
        Request::get(target).send(self.address).await
    }

    async fn post(&self, request: Request) -> Answer {
        request.token(SECRET).send(self.address).await
    }

    /// Waits until the health of the service satisfies `wanted`.
    async fn until(&self, wanted: impl Fn(&Health) -> bool) {
        let reached = async {
            while !wanted(&self.service.health()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .expect("the service did not reach the expected health within 30 s");
    }
}

fn settings(dir: &TempDir) -> Settings {
    let worker = WorkerSettings {
        wait: Duration::from_millis(20),
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(5),
        ..WorkerSettings::default()
    };
    let wal = WalSettings { keep: Duration::ZERO, ..WalSettings::new(dir.path()) };
    Settings { worker, wal, ..Settings::new(dir.path()) }
}

/// A valid chunk with embeddings.
fn chunk() -> Value {
    static CHUNK: LazyLock<Value> = LazyLock::new(|| chunk_sync_samples::samples().remove(0));
    CHUNK.clone()
}

/// An update of [`chunk`] with a new event id.
fn event() -> Value {
    json!({
        "event_id": uuid::Uuid::new_v4(),
        "type": "update",
        "source": "claude",
        "targets": ["postgres", "qdrant", "neo4j"],
        "timestamp": "2026-02-03T04:05:06Z",
        "chunk": chunk(),
    })
}

#[tokio::test]
async fn requests_for_another_host_name_are_refused() {
    let server = Server::open().await;
    for host in ["localhost", "localhost:8733", "127.0.0.1:1", "[::1]:8733", "SYNC.example.org", "192.0.2.7"] {
        let request = Request::get("/healthz").without("Host").header(&format!("Host: {host}"));
        assert_eq!(request.send(server.address).await.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8733", "example.org"] {
        for path in ["/", "/healthz", "/metrics", "/v1/status", "/v1/events", "/page.js", "/nowhere"] {
            let request = Request::get(path).without("Host").header(&format!("Host: {host}"));
            let answer = request.send(server.address).await;
            assert_eq!(answer.status, 421, "{host} {path}");
            assert!(answer.json()["error"].as_str().unwrap().contains("http.hosts"), "{}", answer.body);
        }
    }
    let absolute = Request::get("http://evil.example/healthz").send(server.address).await;
    assert_eq!(absolute.status, 421);
    assert_eq!(Request::get("/healthz").without("Host").send(server.address).await.status, 400);
    assert_eq!(Request::get("/healthz").header("Host: evil.example").send(server.address).await.status, 400);
    let user = Request::get("/healthz").without("Host").header("Host: evil.example@localhost");
    assert_eq!(user.send(server.address).await.status, 400);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_refused_with_json() {
    let server = Server::open().await;
    let nowhere = server.get("/v1/nowhere?x=1").await;
    assert_eq!((nowhere.status, nowhere.header("content-type")), (404, Some("application/json")));
    assert!(nowhere.json()["error"].as_str().unwrap().contains("/v1/nowhere"));
    for (method, path, allowed) in
        [("GET", "/v1/events", "POST"), ("DELETE", "/v1/status", "GET,HEAD"), ("POST", "/", "GET,HEAD")]
    {
        let answer = Request::new(method, path).send(server.address).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        assert!(answer.json()["error"].as_str().unwrap().contains(method));
    }
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let server = Server::open().await;
    for path in ["/", "/page.css", "/page.js", "/v1/status", "/metrics", "/nowhere", "/v1/events"] {
        let answer = server.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
}

#[tokio::test]
async fn requests_before_the_shutdown_are_answered_and_no_connection_is_accepted_after_it() {
    let server = Server::guarded().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    *server.world.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let pending = Request::json(&event()).token(SECRET).begin(server.address).await;
    server.world.publishing.notified().await;
    server.end.send(()).unwrap();
    gate.notify_one();
    assert_eq!(client::answer(pending).await.status, 202);
    server.serving.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    let service = Arc::into_inner(server.service).expect("the server must not hold the service after it has returned");
    service.stop().await.unwrap();
    drop(server.dir);
}
