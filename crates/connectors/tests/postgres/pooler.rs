//! PgBouncer between the service and its rows: a process of its own per test, on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::postgres::{
    CaptureConfig, Plugin, PostgresCapture, PostgresConfig, PostgresRecords, Publish, examine,
};
use chunk_sync_engine::ports::{Applied, Capture as _, FaultClass, Level, SystemOfRecord as _};
use chunk_sync_testkit::eventually;
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{states, write};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18};

/// A PgBouncer. Dropping this value ends it.
pub(crate) struct Pooler {
    process: Child,
    directory: PathBuf,
    pub(crate) port: u16,
}

impl Pooler {
    /// Starts a pooler in this mode before the server of `url`, with further lines of its configuration.
    pub(crate) async fn start(url: &str, mode: &str, further: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("chunk_sync_pooler_{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("pgbouncer.ini");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let (login, server) = url.split_once("://").unwrap().1.split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let server_port = server.split_once('/').unwrap().0.split_once(':').unwrap().1;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port} user={user} password={password}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             server_round_robin = 1\ndefault_pool_size = 30\nserver_idle_timeout = 10\n{further}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("pgbouncer");
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)) {
            command.args(["-u", "daemon"]);
        }
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("install the Debian package pgbouncer: these tests start it");
        let pooler = Self { process, directory, port };
        eventually(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await;
        pooler
    }

    /// The URL with the pooler in the place of the server.
    pub(crate) fn url(&self, url: &str) -> String {
        let (login, server) = url.split_once('@').unwrap();
        let (_, database) = server.split_once('/').unwrap();
        format!("{login}@127.0.0.1:{}/{database}", self.port)
    }
}

fn is_root(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == 0
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn capture_config(url: &str, slot: &str) -> CaptureConfig {
    CaptureConfig {
        url: url.into(),
        publication: "pooled_pub".to_owned(),
        publish: Publish::Least,
        slot: slot.to_owned(),
        plugin: Plugin::default(),
        silence: CaptureConfig::SILENCE,
    }
}

async fn rows_work(config: PostgresConfig) {
    let records = PostgresRecords::connect(config).await.unwrap();
    records.prepare().await.unwrap();
    let writes: Vec<_> = states(20).iter().map(|state| write(state, 1)).collect();
    assert!(records.apply(&writes).await.iter().all(|applied| matches!(applied, Applied::Written)));
    assert_eq!(records.rows(None, 100).await.unwrap().rows.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_work_through_every_mode() {
    for mode in ["session", "transaction"] {
        for database in [Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await] {
            let pooler = Pooler::start(&database.url, mode, "").await;
            let url = pooler.url(&database.url);
            rows_work(PostgresConfig { url: url.as_str().into(), ..database.config() }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_statement_mode_is_refused_with_the_remedy() {
    let database = Database::fresh::<Pg15>().await;
    database.prepared().await;
    let pooler = Pooler::start(&database.url, "statement", "").await;
    let config = PostgresConfig { url: pooler.url(&database.url).as_str().into(), ..database.config() };
    let found = examine(&config, &capture_config(&database.url, "never_made")).await;
    let refused = found.iter().find(|finding| finding.subject == "pooler").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(refused.level, Level::Failed, "{found:?}");
    assert!(refused.remedy.as_deref().unwrap().contains("pool_mode"), "{found:?}");
}

/// Statements of one process are numbered from the start, so those of the previous process are in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_not_disturbed_by_the_statements_of_the_first() {
    let database = Database::fresh::<Pg18>().await;
    let pooler = Pooler::start(&database.url, "transaction", "").await;
    let url = pooler.url(&database.url);
    for _ in 0..2 {
        let mut processes = Vec::new();
        for _ in 0..3 {
            let config = PostgresConfig { url: url.as_str().into(), ..database.config() };
            let records = PostgresRecords::connect(config).await.unwrap();
            processes.push(records);
        }
        for records in &processes {
            records.prepare().await.unwrap();
            records.rows(None, 10).await.unwrap();
        }
    }
}

/// The settings of the service end with each transaction: the sessions belong to other programs as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_reach_every_transaction_and_no_other_client() {
    let database = Database::fresh::<Pg18>().await;
    let pooler = Pooler::start(&database.url, "transaction", "default_pool_size = 2").await;
    let url = pooler.url(&database.url);
    let config = PostgresConfig { url: url.as_str().into(), ..database.config() };
    let records = PostgresRecords::connect(config.clone()).await.unwrap();
    records.prepare().await.unwrap();
    records.rows(None, 10).await.unwrap();
    let other = crate::fixture::client(&url).await;
    for _ in 0..4 {
        let answer =
            other.simple_query("SELECT current_setting('row_security'), current_setting('statement_timeout')").await;
        let answer = format!("{:?}", answer.unwrap());
        assert!(answer.contains("on") && !answer.contains("30s"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capture_goes_past_the_pooler_or_says_what_to_write() {
    let database = Database::fresh::<Pg18>().await;
    let pooler = Pooler::start(&database.url, "transaction", "").await;
    let url = pooler.url(&database.url);
    let slot = format!("pooled_{}", Uuid::new_v4().simple());
    let config = PostgresConfig { url: url.as_str().into(), ..database.config() };
    let records = Arc::new(PostgresRecords::connect(config.clone()).await.unwrap());
    records.prepare().await.unwrap();

    let through = capture_config(&url, &slot);
    let fault = PostgresCapture::new(Arc::clone(&records), through.clone()).prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    assert!(fault.message.contains("postgres.replication_url"), "{fault}");
    let found = examine(&config, &through).await;
    let refused = found.iter().find(|finding| finding.subject == "replication").unwrap();
    assert_eq!(refused.level, Level::Failed, "{found:?}");
    assert!(found.iter().any(|finding| finding.subject == "pooler"), "{found:?}");
    let words = format!("{}; {}", refused.text, refused.remedy.as_deref().unwrap_or_default());
    assert!(fault.message.contains(&words), "`init` and `doctor` differ: {fault}; {words}");

    let past = capture_config(&database.url, &slot);
    let capture = PostgresCapture::new(Arc::clone(&records), past.clone());
    capture.prepare().await.unwrap();
    let mut opened = capture.open().await.unwrap();
    database
        .meddle(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at) \
             VALUES (gen_random_uuid(), 'a row written by hand', 'text', now(), now())",
        )
        .await;
    loop {
        let captured = tokio::time::timeout(Duration::from_secs(30), opened.source.next()).await.unwrap().unwrap();
        if !captured.rows.is_empty() {
            break;
        }
    }
    drop(opened);
    let found = examine(&config, &past).await;
    assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
    drop(capture);
    crate::fixture::execute_when_free(&database.client().await, &format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_the_url_that_a_pooler_refuses_are_named() {
    let database = Database::fresh::<Pg18>().await;
    let pooler = Pooler::start(&database.url, "transaction", "").await;
    let url = format!("{}?options=-c%20geqo%3Doff", pooler.url(&database.url));
    let refused = PostgresRecords::connect(PostgresConfig { url: url.as_str().into(), ..database.config() }).await;
    let fault = refused.err().unwrap();
    assert!(fault.message.contains("options"), "{fault}");
    assert!(fault.message.contains("remove"), "{fault}");
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
}
