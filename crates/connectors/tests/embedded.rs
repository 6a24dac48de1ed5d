//! The contract suites on the embedded stores and their bus, and tests of their lock and their diagnosis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/embed.rs"]
mod embed;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chunk_sync_connectors::embedded::{Embedded, EmbeddedBus, Rows};
use chunk_sync_connectors::{MAX_BACKLOG, MaxBacklog};
use chunk_sync_engine::apply_divided;
use chunk_sync_engine::ports::{Applied, Bus, EntryId, FaultClass, Lease, Projection, Records};
use chunk_sync_model::event::Fields;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::bus::BusFixture;
use chunk_sync_testkit::installation::Home;
use chunk_sync_testkit::lease::LeaseFixture;
use chunk_sync_testkit::merging::RowsAsStore;
use chunk_sync_testkit::states::{states, write};
use tempfile::TempDir;

/// A directory with its open stores.
struct Environment {
    dir: TempDir,
    bound: MaxBacklog,
    embedded: Option<Embedded>,
}

impl Environment {
    fn fresh(bound: MaxBacklog) -> Self {
        let mut environment = Self { dir: TempDir::new().unwrap(), bound, embedded: None };
        environment.reopen();
        environment
    }

    fn reopen(&mut self) {
        // The lock admits one opening at a time, also within a process.
        self.embedded = None;
        self.embedded = Some(Embedded::open(self.dir.path(), "test", Arc::default(), self.bound).unwrap());
    }

    fn open(&self) -> &Embedded {
        self.embedded.as_ref().unwrap()
    }
}

macro_rules! fixture {
    ($name:ident, $port:ty, $part:ident) => {
        fixture!($name, $port, $part, |port| Arc::clone(port) as _);
    };
    ($name:ident, $port:ty, $part:ident, $made:expr) => {
        struct $name(Environment);

        #[async_trait]
        impl Fixture for $name {
            type Port = $port;

            async fn fresh() -> Self {
                Self(Environment::fresh(MAX_BACKLOG))
            }

            fn port(&self) -> Arc<$port> {
                let made: fn(&Arc<_>) -> Arc<$port> = $made;
                made(&self.0.open().$part)
            }

            async fn reopen(&mut self) {
                self.0.reopen();
            }
        }
    };
}

fixture!(StoreOfRows, dyn Projection, rows, |rows: &Arc<Rows>| Arc::new(RowsAsStore(Arc::clone(rows) as _)));
fixture!(RowsAsRecords, dyn Records, rows);
fixture!(RowsAsHome, dyn Home, rows);
fixture!(Vectors, dyn Projection, vectors);
fixture!(Graph, dyn Projection, graph);
fixture!(BusOfPlace, dyn Bus, bus);
fixture!(LeaseOfPlace, dyn Lease, lease);

impl LeaseFixture for LeaseOfPlace {
    fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.0.open().rows) as _
    }
}

#[async_trait]
impl BusFixture for BusOfPlace {
    async fn narrow(bound: u64) -> Self {
        Self(Environment::fresh(MaxBacklog::of_entries(bound)))
    }

    async fn add(&self, fields: Fields) -> EntryId {
        let bus: &EmbeddedBus = &self.0.open().bus;
        bus.add(fields).await.unwrap()
    }
}

mod rows {
    use super::*;
    chunk_sync_testkit::store_suite!(StoreOfRows);
    chunk_sync_testkit::records_suite!(RowsAsRecords);
    chunk_sync_testkit::installation_suite!(RowsAsHome);
}

mod vectors {
    use super::*;
    chunk_sync_testkit::store_suite!(Vectors);
    chunk_sync_testkit::vector_store_suite!(Vectors);
}

mod graph {
    use super::*;
    chunk_sync_testkit::store_suite!(Graph);
    chunk_sync_testkit::graph_store_suite!(Graph);
}

chunk_sync_testkit::bus_suite!(BusOfPlace);
chunk_sync_testkit::lease_suite!(LeaseOfPlace);

#[test]
fn the_example_of_an_embedding_program_carries_its_chunks_to_every_store() {
    embed::main().unwrap();
}

#[test]
fn a_second_process_is_refused_and_the_error_names_the_first() {
    let dir = TempDir::new().unwrap();
    let first = Embedded::open(dir.path(), "run", Arc::default(), MAX_BACKLOG).unwrap();
    let refused = Embedded::open(dir.path(), "verify", Arc::default(), MAX_BACKLOG)
        .err()
        .expect("a second opening must be refused");
    assert_eq!(refused.class, FaultClass::Busy);
    assert!(refused.message.contains(&format!("process {}, `chunk-sync run`", std::process::id())), "{refused}");
    drop(first);
    Embedded::open(dir.path(), "verify", Arc::default(), MAX_BACKLOG).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_gets_an_entry_of_another_process_within_50_ms() {
    let dir = TempDir::new().unwrap();
    let working = Embedded::open(dir.path(), "run", Arc::default(), MAX_BACKLOG).unwrap();
    let beside = Embedded::open_existing(dir.path(), Arc::default(), MAX_BACKLOG).unwrap();
    let refused = beside.bus.read(1, Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.class, FaultClass::Misconfigured, "only the holder of the lock reads");
    let mut latencies = Vec::new();
    for number in 0..20_u8 {
        let reading = tokio::spawn({
            let bus = Arc::clone(&working.bus);
            async move {
                let read = bus.read(9, Duration::from_secs(10)).await.unwrap();
                (read.into_iter().map(|delivery| delivery.fields).collect::<Vec<_>>(), Instant::now())
            }
        });
        // The reader sleeps by then. The length of the pause only shifts the publication within the poll interval.
        tokio::time::sleep(Duration::from_millis(u64::from(number) * 3)).await;
        let fields: Fields = vec![(b"number".to_vec(), vec![number])];
        beside.bus.add(fields.clone()).await.unwrap();
        let published = Instant::now();
        let (read, seen) = reading.await.unwrap();
        assert_eq!(read, [fields]);
        latencies.push(seen.saturating_duration_since(published));
    }
    latencies.sort_unstable();
    assert!(latencies[10] < Duration::from_millis(50), "{latencies:?}");
    let (here, there) = (working.bus.depth().await.unwrap(), beside.bus.depth().await.unwrap());
    assert_eq!((here, here.pending), (there, 20), "both processes see the same pending entries");
}

#[test]
fn opening_an_existing_file_creates_nothing_and_opening_beside_creates_a_private_one() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let missing =
        Embedded::open_existing(&data, Arc::default(), MAX_BACKLOG).err().expect("a missing file must be refused");
    assert_eq!(missing.class, FaultClass::Misconfigured);
    assert!(!data.exists(), "the directory was created");
    drop(Embedded::open_beside(&data, Arc::default(), MAX_BACKLOG).unwrap());
    let mode = |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("chunk-sync.db")), (0o700, 0o600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_on_an_old_snapshot_and_a_blocking_writer_are_reported() {
    let dir = TempDir::new().unwrap();
    let embedded = Embedded::open(dir.path(), "run", Arc::default(), MAX_BACKLOG).unwrap();
    let foreign = || rusqlite::Connection::open(dir.path().join(chunk_sync_connectors::embedded::FILE)).unwrap();
    assert_eq!(embedded.file.strains(), []);
    let mut reader = foreign();
    let snapshot = reader.transaction().unwrap();
    snapshot.query_row("SELECT count(*) FROM bus_entries", [], |row| row.get::<_, i64>(0)).unwrap();
    for _ in 0..20 {
        embedded.bus.add(vec![(b"chunk".to_vec(), vec![7; 1 << 20])]).await.unwrap();
    }
    let [strain] = <[_; 1]>::try_from(embedded.file.strains()).unwrap();
    assert!(strain.text.contains("reads an old snapshot") && strain.remedy.contains("lsof"), "{strain:?}");
    drop(snapshot);
    assert_eq!(embedded.file.strains(), [], "the checkpoint completes once the reader has ended");
    let mut writer = foreign();
    let blocking = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let waiting = tokio::spawn({
        let bus = Arc::clone(&embedded.bus);
        async move { bus.add(Vec::new()).await }
    });
    let began = Instant::now();
    while embedded.file.strains().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(9), "the blocking writer is not reported");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(embedded.file.strains()[0].text.contains("held the write lock"));
    let findings = tokio::task::spawn_blocking({
        let dir = dir.path().to_owned();
        move || chunk_sync_connectors::embedded::examine(&dir)
    });
    assert!(findings.await.unwrap().iter().any(|finding| finding.text.contains("held the write lock")));
    drop(blocking);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_table_of_waiting_events_keeps_its_promises() {
    let environment = Environment::fresh(MAX_BACKLOG);
    chunk_sync_testkit::waiting::suite(&*environment.open().rows).await;
    chunk_sync_testkit::waiting::bounded_reads(&*environment.open().rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_the_file_refuses_fails_alone() {
    let dir = TempDir::new().unwrap();
    let embedded = Embedded::open(dir.path(), "run", Arc::default(), MAX_BACKLOG).unwrap();
    let writes: Vec<_> = states(20).iter().map(|state| write(state, 1)).collect();
    let foreign = rusqlite::Connection::open(dir.path().join(chunk_sync_connectors::embedded::FILE)).unwrap();
    for table in ["points", "graph_chunks"] {
        let refusal = format!(
            "CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} WHEN NEW.id = x'{}'
             BEGIN SELECT RAISE(ABORT, 'refused by the test'); END",
            writes[13].id.simple()
        );
        foreign.execute_batch(&refusal).unwrap();
    }
    let stores: [&dyn Projection; 2] = [&*embedded.vectors, &*embedded.graph];
    for store in stores {
        let answers = apply_divided(store, &writes, || true).await;
        for (i, answer) in answers.iter().enumerate() {
            match answer {
                Applied::Failed(fault) if i == 13 => assert_eq!(fault.class, FaultClass::Rejected, "{fault}"),
                answer => assert!(matches!(answer, Applied::Written) && i != 13, "{i}: {answer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_bus_is_bounded_in_bytes() {
    let environment = Environment::fresh(MaxBacklog { bytes: 100_000, ..MAX_BACKLOG });
    chunk_sync_testkit::bus::a_bound_in_bytes_holds(&*environment.open().bus).await;
}
