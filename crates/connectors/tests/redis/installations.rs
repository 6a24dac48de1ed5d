//! Servers as other people run them: TLS, users with few rights, other databases, clusters, fail-over.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_connectors::redis::{RedisBus, RedisConfig, examine, rights};
use chunk_sync_connectors::{OwnCertificate, TlsFiles};
use chunk_sync_engine::ports::{Bus, DeadLetters, Fault, FaultClass, Handover, Level, Marked};
use chunk_sync_testkit::certificates::{Authority, Certificate};
use tempfile::TempDir;
use uuid::Uuid;

use crate::server::Server;
use crate::surroundings::{LONG, SHORT, config, events, read_all, send};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Publishes, reads, acknowledges, trims and looks: everything that a service does with a bus.
async fn use_bus(config: &RedisConfig) -> Result<(), Fault> {
    let bus = RedisBus::new(config)?;
    bus.prepare().await?;
    bus.begin(Handover::Silent).await?;
    bus.set_mark(Uuid::new_v4()).await?;
    bus.publish(&events(3)).await?;
    let read = read_all(&bus, 3).await;
    let letter = chunk_sync_engine::ports::DeadLetter::of_long_entry(
        read[0].id,
        1,
        2,
        chunk_sync_model::Time::from_micros(1_700_000_000_000_000),
    );
    bus.dead_letter(&[letter]).await?;
    let letters = bus.dead(None, 10).await?;
    bus.drop_dead(letters[0].id).await?;
    bus.acknowledge(&read.iter().map(|entry| entry.id).collect::<Vec<_>>()).await?;
    bus.read(10, SHORT).await?;
    bus.trim().await?;
    bus.epoch().await?;
    bus.depth().await?;
    bus.condition().await?;
    bus.marks().await.map(drop)
}

/// A server with this certificate. It requires one of its clients if `asks`.
fn with_tls(authority: &Authority, own: &Certificate, asks: bool) -> (Server, u16) {
    let (port, text) = (free_port(), |path: &Path| path.to_str().unwrap().to_owned());
    let tls_port = port.to_string();
    let (cert, key, ca) = (text(&own.cert), text(&own.key), text(&authority.file));
    let asks = if asks { "yes" } else { "no" };
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    (Server::start(&[&options[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", asks]].concat()), port)
}

fn trusting(authority: &Authority, host: &str, port: u16) -> RedisConfig {
    let tls = TlsFiles { ca: Some(authority.file.clone()), own: None };
    RedisConfig { tls, ..config(&format!("rediss://{host}:{port}/0")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_verified_and_what_is_wrong_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (good, expired) = (authority.sign(&["localhost", "127.0.0.1"]), authority.sign_expired(&["localhost"]));
    let (alone, elsewhere) = (authority.self_signed(&["localhost"]), authority.sign(&["redis.example"]));
    for (own, trusts, refusal) in [
        (&good, &authority, None),
        (&good, &other, Some("self-signed, or its authority is not trusted; set redis.ca_file")),
        (&alone, &authority, Some("self-signed")),
        (&expired, &authority, Some("has expired")),
        (&elsewhere, &authority, Some("for another name")),
    ] {
        let (_server, port) = with_tls(&authority, own, false);
        let config = trusting(trusts, "localhost", port);
        let used = use_bus(&config).await;
        let Some(refusal) = refusal else {
            used.unwrap();
            continue;
        };
        let fault = used.unwrap_err();
        assert_eq!(fault.class, FaultClass::Misconfigured, "{refusal}: {fault}");
        assert!(fault.message.contains(refusal), "{refusal}: {fault}");
        let found = examine(&config).await;
        assert!(found.iter().any(|f| f.level == Level::Failed && f.text.contains(refusal)), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_the_client_is_shown_and_its_lack_named() {
    let authority = Authority::new();
    let (own, mine) = (authority.sign(&["localhost"]), authority.sign(&["chunk-sync"]));
    let (_server, port) = with_tls(&authority, &own, true);
    let without = trusting(&authority, "localhost", port);
    let fault = use_bus(&without).await.unwrap_err();
    assert!(fault.message.contains("redis.cert_file"), "{fault}");
    let shown = OwnCertificate { cert: mine.cert.clone(), key: mine.key.clone() };
    use_bus(&RedisConfig { tls: TlsFiles { own: Some(shown), ..without.tls.clone() }, ..without.clone() })
        .await
        .unwrap();
    let absent = OwnCertificate { cert: "/none/cert.pem".into(), key: mine.key };
    let missing = RedisConfig { tls: TlsFiles { own: Some(absent), ..without.tls.clone() }, ..without };
    let fault = use_bus(&missing).await.unwrap_err();
    assert!(fault.message.contains("cannot read the certificate file /none/cert.pem"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_rights_suffice_and_a_missing_one_is_named() {
    let server = Server::start(&[]);
    let config = config(&server.url().replace("redis://", "redis://chunk-sync:secret@"));
    let rule = rights(&config.stream, &config.dead_stream).replace("PASSWORD", "secret");
    let words: Vec<&str> = rule.split_whitespace().collect();
    let _: String = send(&server.url(), &words).await;
    use_bus(&config).await.unwrap();
    let found = examine(&config).await;
    assert!(found.iter().all(|finding| finding.level <= Level::Warning), "{found:?}");
    let _: String = send(&server.url(), &["ACL", "SETUSER", "chunk-sync", "-xadd"]).await;
    let fault = use_bus(&config).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Denied);
    assert!(fault.message.contains("grant the user the rule +xadd by ACL SETUSER"), "{fault}");
    let _: String = send(&server.url(), &["ACL", "SETUSER", "chunk-sync", "+xadd", "-xrange"]).await;
    let fault = use_bus(&config).await.unwrap_err();
    assert!(fault.class == FaultClass::Denied && fault.message.contains("commands of the scripts"), "{fault}");
    let _: String = send(&server.url(), &["ACL", "SETUSER", "chunk-sync", "+xrange", "resetkeys"]).await;
    let fault = use_bus(&config).await.unwrap_err();
    assert!(fault.message.contains("the rule for the keys of the streams"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_other_than_0_is_apart() {
    let server = Server::start(&[]);
    let zero = config(&server.url());
    let three = RedisConfig { url: server.url().replace("/0", "/3").as_str().into(), ..zero.clone() };
    use_bus(&three).await.unwrap();
    let keys: u64 = send(&server.url(), &["DBSIZE"]).await;
    assert_eq!(keys, 0);
    use_bus(&zero).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_recognised_and_served_with_one_hash_tag() {
    let server = Server::start(&["--cluster-enabled", "yes"]);
    let _: String = send(&server.url(), &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let deadline = Instant::now() + LONG;
    while !send::<String>(&server.url(), &["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the cluster does not become ready");
    }
    let apart = config(&server.url());
    let fault = use_bus(&apart).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("redis.stream = \"{chunk}:sync:stream\""), "{fault}");
    let found = examine(&apart).await;
    assert!(found.iter().any(|f| f.level == Level::Failed && f.text.contains("hash tag")), "{found:?}");
    let (stream, dead_stream) = ("{chunk}:sync:stream".to_owned(), "{chunk}:sync:dead".to_owned());
    use_bus(&RedisConfig { stream, dead_stream, ..apart }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_a_replica_for_a_while_is_used_again() {
    let server = Server::start(&[]);
    let bus = RedisBus::new(&config(&server.url())).unwrap();
    bus.prepare().await.unwrap();
    let _: String = send(&server.url(), &["REPLICAOF", "127.0.0.1", &free_port().to_string()]).await;
    for _ in 0..3 {
        let fault = bus.publish(&events(1)).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Unavailable, "{fault}");
    }
    let _: String = send(&server.url(), &["REPLICAOF", "NO", "ONE"]).await;
    bus.publish(&events(1)).await.unwrap();
}

/// A Sentinel, which is the server under another name.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    fn watch(master: u16) -> Self {
        Self::with(master, "")
    }

    /// One with further lines in its configuration.
    fn with(master: u16, lines: &str) -> Self {
        let (port, dir) = (free_port(), TempDir::new().unwrap());
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n{lines}",
            dir.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("redis-server");
        let child = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        Self { child, port, _dir: dir }
    }

    fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` returns true.
async fn until<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let deadline = Instant::now() + 2 * LONG;
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentinels_name_the_master_and_after_its_death_the_next() {
    let mut first = Server::start(&[]);
    let second = Server::start(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let replicates =
        || async { send::<String>(&second.url(), &["INFO", "replication"]).await.contains("master_link_status:up") };
    until("the second server does not replicate", replicates).await;
    let sentinel = Sentinel::watch(first.port());
    // The first of the Sentinels is down.
    let sentinels = vec![format!("127.0.0.1:{}", free_port()), sentinel.place()];
    let config = RedisConfig { sentinels, answer_within: Duration::from_secs(2), ..config("redis://mymaster/0") };
    let bus = Arc::new(RedisBus::new(&config).unwrap());
    until("no Sentinel names the master", || async { bus.prepare().await.is_ok() }).await;
    bus.begin(Handover::Silent).await.unwrap();
    bus.publish(&events(5)).await.unwrap();
    assert_eq!(read_all(&bus, 5).await.len(), 5);
    let knows = || async {
        let url = format!("redis://{}/", sentinel.place());
        let replicas: Vec<redis::Value> = send(&url, &["SENTINEL", "REPLICAS", "mymaster"]).await;
        !replicas.is_empty()
    };
    until("the Sentinel does not know the replica", knows).await;
    first.kill();
    // The publisher waits for the fail-over; nothing is configured again.
    until("no fail-over", || async { bus.publish(&events(5)).await.is_ok() }).await;
    let read = async || bus.read(100, SHORT).await.map(|read| read.len()).unwrap_or_default();
    until("the events of the new master are not read", || async { read().await > 0 }).await;
    // The former master returns as a replica and is not used.
    first.restart();
    bus.publish(&events(1)).await.unwrap();

    let unknown = RedisConfig { url: "redis://another/0".into(), ..config };
    let fault = RedisBus::new(&unknown).unwrap().prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Unavailable);
    assert!(fault.message.contains("`another`") && fault.message.contains("knows no such master"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_with_a_password_of_their_own_are_asked_with_it() {
    let master = Server::start(&[]);
    let sentinel = Sentinel::with(master.port(), "requirepass of-the-sentinel\n");
    let without = RedisConfig { sentinels: vec![sentinel.place()], ..config("redis://mymaster/0") };
    let refused = || async {
        let fault = RedisBus::new(&without).unwrap().prepare().await.unwrap_err();
        fault.message.contains("NOAUTH") || fault.message.contains("Authentication required")
    };
    until("the Sentinel does not ask for its password", refused).await;
    let with = RedisConfig { sentinel_password: Some("of-the-sentinel".into()), ..without.clone() };
    until("the Sentinel does not name the master", || async { use_bus(&with).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheme_that_does_not_fit_the_port_is_named() {
    let authority = Authority::new();
    let own = authority.sign(&["localhost"]);
    let (server, tls_port) = with_tls(&authority, &own, false);
    let plain_as_tls = trusting(&authority, "localhost", server.port());
    let tls_as_plain = config(&format!("redis://localhost:{tls_port}/0"));
    for (config, words) in [
        (plain_as_tls, "speaks Redis without TLS; write redis:// in redis.url"),
        (tls_as_plain, "speaks TLS; write rediss:// in redis.url"),
    ] {
        let fault = use_bus(&config).await.unwrap_err();
        assert!(fault.class == FaultClass::Misconfigured && fault.message.contains(words), "{fault}");
        let found = examine(&config).await;
        assert!(found.iter().any(|f| f.level == Level::Failed && f.text.contains(words)), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_its_data_is_waited_for() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let bus = RedisBus::new(&config).unwrap();
    bus.prepare().await.unwrap();
    bus.begin(Handover::Silent).await.unwrap();
    let count = 3_000;
    for part in events(count).chunks(500) {
        bus.publish(part).await.unwrap();
    }
    server.kill();
    // Each key or command takes 0.5 ms to load; the server answers after each 1,024.
    server.start_loading(&["--key-load-delay", "500", "--enable-debug-command", "yes"]);
    let (began, mut loading) = (Instant::now(), 0);
    while let Err(fault) = bus.publish(&events(1)).await {
        assert!(fault.class == FaultClass::Unavailable && began.elapsed() < 2 * LONG, "{fault}");
        loading += usize::from(fault.message.to_lowercase().contains("loading"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(loading > 0, "the server loaded its data too fast to be seen");
    assert_eq!(read_all(&bus, count + 1).await.len(), count + 1);
}
