//! A primary of PostgreSQL with two standbys: one of them becomes the primary while the service runs with the list of hosts and
//! an application writes rows.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use crate::environment::{Environment, Role, free_port, variable};
use crate::own_server::{OwnServer, PASSWORD};

pub(crate) const RULES: &str =
    "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";

/// A primary and two standbys.
struct Cluster {
    primary: OwnServer,
    standbys: [OwnServer; 2],
    settings: Vec<String>,
}

impl Cluster {
    async fn start(programs: &Path, settings: &[&str]) -> Self {
        let mut primary = OwnServer::by(programs, RULES);
        let of_primary = ["wal_level=logical", "wal_keep_size=256MB"];
        primary.start(&of_primary).await;
        let client = primary.client().await;
        for name in ["first", "second"] {
            client.execute("SELECT pg_create_physical_replication_slot($1)", &[&name]).await.unwrap();
        }
        let mut standbys = [OwnServer::standby_of(&primary), OwnServer::standby_of(&primary)];
        let settings: Vec<String> = of_primary.iter().chain(settings).map(ToString::to_string).collect();
        for (standby, name) in standbys.iter_mut().zip(["first", "second"]) {
            follow(standby, &primary, name, &settings).await;
        }
        Self { primary, standbys, settings }
    }

    /// The servers in an order in which the primary is not the first.
    fn list(&self) -> String {
        let [first, second] = self.standbys.each_ref().map(|standby| standby.port);
        format!(
            "postgres://postgres:{PASSWORD}@127.0.0.1:{first},127.0.0.1:{},127.0.0.1:{second}/postgres\
             ?target_session_attrs=read-write",
            self.primary.port
        )
    }

    /// Waits until the standby that becomes the primary has a slot in step with that of the primary.
    async fn until_the_standby_has_the_slot(&self) {
        let slot = "SELECT FROM pg_replication_slots WHERE slot_name LIKE 'chunk%' AND synced AND NOT temporary";
        let (client, began) = (self.standbys[0].client().await, Instant::now());
        while client.query(slot, &[]).await.unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "the standby has no slot");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the new primary holds, for the message of a failure.
    async fn state(&self, written: &[Uuid]) -> String {
        let client = self.standbys[0].client().await;
        let tables =
            client.query("SELECT tablename FROM pg_tables WHERE schemaname = 'chunk_sync'", &[]).await.unwrap();
        let counts = tables.iter().map(|row| format!("chunk_sync.{}", row.get::<_, String>(0)));
        let mut state = Vec::new();
        for table in counts.chain(["unified.chunks".to_owned()]) {
            let count = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
            state.push(format!("{table} {}", count.get::<_, i64>(0)));
        }
        let slots = "SELECT format('slot %s active %s at %s, log at %s', slot_name, active, confirmed_flush_lsn,
            pg_current_wal_lsn()) FROM pg_replication_slots";
        state.extend(client.query(slots, &[]).await.unwrap().iter().map(|row| row.get(0)));
        let records = "SELECT format('%s xmin %s', to_jsonb(r), xmin) FROM chunk_sync.records r WHERE id = ANY($1)";
        state.extend(client.query(records, &[&written]).await.unwrap().iter().map(|row| row.get(0)));
        state.join("; ")
    }

    /// The primary stops in order, the first standby becomes the primary, and the second follows it.
    async fn switch_over(&mut self) {
        self.primary.stop();
        let [first, second] = &mut self.standbys;
        let client = first.client().await;
        client.batch_execute("SELECT pg_promote(true, 60)").await.unwrap();
        client.execute("SELECT pg_create_physical_replication_slot('second')", &[]).await.unwrap();
        follow(second, first, "second", &self.settings).await;
    }
}

async fn follow(standby: &mut OwnServer, primary: &OwnServer, slot: &str, settings: &[String]) {
    let from = format!(
        "primary_conninfo=host=127.0.0.1 port={} user=postgres password={PASSWORD} dbname=postgres",
        primary.port
    );
    let slot = format!("primary_slot_name={slot}");
    let all: Vec<&str> = settings.iter().map(String::as_str).chain([&*from, &*slot]).collect();
    standby.start(&all).await;
}

/// Writes rows without end, on whichever server takes them. Returns the ids whose insertion was acknowledged.
async fn write(list: String, ends: Arc<AtomicBool>) -> Vec<Uuid> {
    let mut config: Config = list.parse().unwrap();
    config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(Duration::from_secs(2));
    let (mut written, mut client): (Vec<Uuid>, Option<Client>) = (Vec::new(), None);
    while !ends.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Some(open) = &client else {
            if let Ok((opened, connection)) = config.connect(NoTls).await {
                tokio::spawn(connection);
                client = Some(opened);
            }
            continue;
        };
        let id = Uuid::new_v4();
        let insert = format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
             VALUES ('{id}', 'a row of the application', 'text', now(), now())"
        );
        match open.batch_execute(&insert).await {
            Ok(()) => written.push(id),
            Err(_) => client = None,
        }
    }
    written
}

/// Switches over under load. Returns the metrics of the service afterwards.
async fn nothing_is_lost(programs: &Path, settings: &[&str], roles: &[Role]) -> String {
    let environment = Environment::new(roles).await;
    let mut cluster = Cluster::start(programs, settings).await;
    let list = cluster.list();
    let command = |arguments: &[&str]| {
        let output = environment.program(arguments).env("CHUNK_SYNC__POSTGRES__URL", &list).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    };
    command(&["init"]);
    a_standby_is_reported(&environment, &cluster.standbys[0].url("postgres"));
    let address = format!("127.0.0.1:{}", free_port());
    let service =
        environment.start_with(&[("CHUNK_SYNC__POSTGRES__URL", &list), ("CHUNK_SYNC__HTTP__LISTEN", &address)]);
    let ends = Arc::new(AtomicBool::new(false));
    let application = tokio::spawn(write(list.clone(), Arc::clone(&ends)));
    environment.until_nodes("rows in the graph", 50).await;
    if settings.contains(&"sync_replication_slots=on") {
        cluster.until_the_standby_has_the_slot().await;
    }
    let before = environment.nodes().await;
    let began = Instant::now();
    cluster.switch_over().await;
    environment.until_nodes("rows written after", before + 100).await;
    eprintln!("100 rows more are visible {:.1} s after the primary was stopped", began.elapsed().as_secs_f64());
    ends.store(true, Ordering::Relaxed);
    let written = application.await.unwrap();
    let began = Instant::now();
    while environment.nodes().await < written.len() as u64 {
        if began.elapsed() > Duration::from_secs(60) {
            let missing = environment.missing(&written).await;
            let state = cluster.state(&missing).await;
            panic!("{} rows were acknowledged; the graph lacks {missing:?}; in PostgreSQL: {state}", written.len());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = metrics(&address);
    service.terminate();
    let report: Value = serde_json::from_slice(&command(&["verify", "--json"])).unwrap();
    assert_eq!(report["consistent"], true, "{report}");
    let rows = cluster.standbys[0].client().await.query("SELECT id FROM unified.chunks", &[]).await.unwrap();
    let rows: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let lost: Vec<&Uuid> = written.iter().filter(|id| !rows.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    eprintln!("{} rows acknowledged, none lost", written.len());
    metrics
}

/// `doctor` names the standby, and does not take what it refuses for a server that does not answer.
fn a_standby_is_reported(environment: &Environment, url: &str) {
    let output = environment.program(&["doctor", "--problems"]).env("CHUNK_SYNC__POSTGRES__URL", url).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the server is a standby") && text.contains("0 without answer"), "{text}");
}

fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn gaps(metrics: &str) -> Vec<&str> {
    metrics.lines().filter(|line| line.starts_with("chunk_sync_capture_gaps_total")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_over_of_15_is_a_gap_and_loses_no_write() {
    let metrics =
        nothing_is_lost(Path::new("/usr/lib/postgresql/15/bin"), &[], &[Role::Postgres, Role::Redis, Role::Neo4j])
            .await;
    assert!(!gaps(&metrics).is_empty(), "the slot stayed on the old primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_bus_in_18_a_switch_over_continues_with_the_slot_of_the_standby_and_loses_no_write() {
    let (client, connection) = tokio_postgres::connect(&variable("PG18_URL"), NoTls).await.unwrap();
    tokio::spawn(connection);
    let programs = client.query_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'", &[]).await.unwrap();
    let programs = PathBuf::from(programs.get::<_, String>(0));
    let settings = ["sync_replication_slots=on", "hot_standby_feedback=on"];
    let metrics = nothing_is_lost(&programs, &settings, &[Role::Postgres, Role::Neo4j]).await;
    assert!(gaps(&metrics).iter().all(|line| line.ends_with(" 0")), "{:?}", gaps(&metrics));
}
