//! An installation that lacks stores, gets a new store, or is changed while a process runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{
    DeadLetters as _, Installation, Installed, Kept, Projection, StoreSet, SystemOfRecord as _,
};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_engine::{Filling, Ports, Publisher, Service, Settings, WorkerSettings};
use chunk_sync_model::{Event, Limits, SyncVersion, Target};
use chunk_sync_testkit::memory::{MemoryBus, MemoryRecords, MemoryStore, memory_ports};
use chunk_sync_testkit::states::states;
use tempfile::TempDir;
use uuid::Uuid;

/// The servers and files, which outlive the processes.
struct World {
    bus: MemoryBus,
    records: MemoryRecords,
    vectors: MemoryStore,
    graph: MemoryStore,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let store = |target| MemoryStore::new(target, Limits::default());
        let (vectors, graph) = (store(Target::Qdrant), store(Target::Neo4j));
        let (bus, records) = (MemoryBus::default(), MemoryRecords::default());
        Self { bus, records, vectors, graph, dir: TempDir::new().unwrap() }
    }

    fn ports(&self, installed: &Installed) -> Ports {
        let all: [Arc<dyn Projection>; 2] = [Arc::new(self.vectors.clone()), Arc::new(self.graph.clone())];
        let stores = all.into_iter().filter(|store| installed.stores.0.contains_key(&store.target())).collect();
        Ports { set: Some(installed.version), ..memory_ports(&self.bus, &self.records, stores) }
    }

    fn settings(&self) -> Settings {
        let worker = WorkerSettings {
            wait: Duration::from_millis(20),
            retry_max: Duration::from_millis(50),
            ..WorkerSettings::default()
        };
        Settings { worker, ..Settings::new(self.dir.path().join("wal")) }
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(Arc::new(self.bus.clone()), Arc::new(Limits::default()))
    }

    async fn service(&self, installed: &Installed) -> Service {
        Service::start(self.ports(installed), self.settings()).await.unwrap()
    }

    async fn publish(&self, targets: &[Target], count: usize) {
        let event = |state: Arc<chunk_sync_model::State>| Event {
            targets: targets.to_vec(),
            ..Event::of_chunk(state.chunk.clone())
        };
        self.publisher().publish(states(count).into_iter().map(event).collect()).await.unwrap();
    }

    async fn versions(&self) -> Vec<SyncVersion> {
        self.records.rows(None, usize::MAX).await.unwrap().rows.into_iter().map(|row| row.version).collect()
    }
}

fn installed(version: u64, stores: &[Target]) -> Installed {
    let stores: BTreeMap<_, _> = stores.iter().map(|target| (*target, Kept::Server)).collect();
    Installed {
        id: Uuid::max(),
        version,
        stores: StoreSet(stores),
        filling: BTreeSet::new(),
        floor: SyncVersion::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_an_absent_store_is_merged_into_the_row() {
    let world = World::new();
    let set = installed(1, &[Target::Qdrant]);
    world.records.record(None, &set).await.unwrap();
    world.publish(&[Target::Neo4j], 3).await;
    let service = world.service(&set).await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let report = verify(&world.ports(&set), &Options::default(), &|_| {}).await.unwrap();
    assert!(report.consistent && report.chunks == 3, "{report:?}");
    assert_eq!(report.stores.keys().copied().collect::<Vec<_>>(), [Target::Postgres, Target::Qdrant]);
    assert_eq!(world.graph.counts().await.unwrap().chunks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_is_filled_and_compared_and_no_version_changes() {
    let world = World::new();
    let one = installed(1, &[Target::Qdrant]);
    world.records.record(None, &one).await.unwrap();
    world.publish(&Target::ALL, 40).await;
    let service = world.service(&one).await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let before = world.versions().await;
    // A chunk with neither row nor record stays: its origin is unknown.
    let unknown = states(41).pop().unwrap();
    world.graph.tamper(unknown.chunk.id, SyncVersion::default(), Some(&unknown));
    let filling = BTreeSet::from([Target::Neo4j]);
    let both = Installed { filling, ..installed(2, &[Target::Qdrant, Target::Neo4j]) };
    world.records.record(Some(1), &both).await.unwrap();
    let service = world.service(&both).await;
    let home = Arc::new(world.records.clone());
    let worker = world.settings().worker;
    let filling = Filling::start(world.ports(&both), world.publisher(), home, &both, worker);
    assert_eq!(filling.state().get().into_keys().collect::<Vec<_>>(), [Target::Neo4j]);
    filling.state().ended().await;
    filling.stop().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert_eq!(world.versions().await, before, "filling must not change a version");
    assert!(world.records.installed().await.unwrap().unwrap().filling.is_empty());
    let report = verify(&world.ports(&both), &Options::default(), &|_| {}).await.unwrap();
    assert_eq!((report.differing, report.stores[&Target::Neo4j].orphaned), (1, 1), "{report:?}");
    assert_eq!(world.graph.counts().await.unwrap().chunks, 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stops_at_its_next_merge_once_the_set_changed_and_loses_nothing() {
    let mut world = World::new();
    let both = installed(1, &[Target::Qdrant, Target::Neo4j]);
    world.records.record(None, &both).await.unwrap();
    let service = world.service(&both).await;
    service.until_idle().await.unwrap();
    let one = installed(2, &[Target::Qdrant]);
    world.records.record(Some(1), &one).await.unwrap();
    world.publish(&Target::ALL, 5).await;
    let fault = service.ended().await.unwrap_err();
    assert!(fault.outdated && fault.message.contains("started with version 1"), "{fault}");
    drop(service);
    world.bus.end();
    world.bus = world.bus.another();
    assert!(world.bus.dead(None, 9).await.unwrap().is_empty());
    assert_eq!(world.versions().await, []);
    let service = world.service(&one).await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let report = verify(&world.ports(&one), &Options::default(), &|_| {}).await.unwrap();
    assert!(report.consistent && report.chunks == 5, "{report:?}");
}
