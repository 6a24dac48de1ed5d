//! Stores with chunks, a service that propagates changes, and ways to damage the stores.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::Projection;
use chunk_sync_engine::repair::{Orphans, Step, plan, publish, until_finished};
use chunk_sync_engine::verify::{Difference, Options, Report, look_again, verify};
use chunk_sync_engine::{Capturing, Ports, Publisher, Service, Settings, WorkerSettings};
use chunk_sync_model::{Body, Event, EventType, Limits, Origin, State, SyncVersion, Target, Time, Writer};
use chunk_sync_testkit::eventually;
use chunk_sync_testkit::memory::{MemoryBus, MemoryCapture, MemoryRecords, MemoryStore, memory_ports};
use tempfile::TempDir;
use uuid::Uuid;

/// All ports in memory, and handles with which a test writes without the service.
pub(crate) struct World {
    pub(crate) ports: Ports,
    pub(crate) publisher: Publisher,
    pub(crate) rows: MemoryRecords,
    pub(crate) vectors: MemoryStore,
    pub(crate) graph: MemoryStore,
    dir: TempDir,
}

/// The result of a repair.
pub(crate) struct RepairOutcome {
    pub(crate) plan: Vec<Step>,
    pub(crate) remaining: Vec<Difference>,
}

impl World {
    pub(crate) fn empty() -> Self {
        let (bus, rows) = (Arc::new(MemoryBus::default()), MemoryRecords::default());
        let store = |target| MemoryStore::new(target, Limits::default());
        let (vectors, graph) = (store(Target::Qdrant), store(Target::Neo4j));
        let publisher = Publisher::new(bus.clone(), Arc::new(Limits::default()));
        let stores: Vec<Arc<dyn Projection>> = vec![Arc::new(vectors.clone()), Arc::new(graph.clone())];
        let ports = memory_ports(&bus, &rows, stores);
        Self { ports, publisher, rows, vectors, graph, dir: TempDir::new().unwrap() }
    }

    /// A world with these chunks in all stores.
    pub(crate) async fn with(states: &[Arc<State>]) -> Self {
        let world = Self::empty();
        let events = states.iter().map(|state| Event::of_chunk(state.chunk.clone())).collect();
        world.carry(events).await;
        world
    }

    pub(crate) fn options() -> Options {
        Options { still: Duration::from_millis(50), ..Options::default() }
    }

    pub(crate) fn settings(&self) -> Settings {
        let worker = WorkerSettings { wait: Duration::from_millis(20), ..WorkerSettings::default() };
        Settings { worker, ..Settings::new(self.dir.path().join("wal")) }
    }

    pub(crate) async fn service(&self) -> Service {
        Service::start(self.ports.clone(), self.settings()).await.unwrap()
    }

    /// Captures as another process that reads the same log.
    pub(crate) fn captures(&self, capture: &MemoryCapture, service: &Service) -> Capturing {
        let (ports, publisher) = (self.ports.clone(), self.publisher.clone());
        let settings = Arc::new(self.settings());
        Capturing::start(Arc::new(capture.another()), ports, publisher, settings, service.leadership())
    }

    /// Publishes the events, and waits until everything on the bus is carried.
    pub(crate) async fn carry(&self, events: Vec<Event>) {
        let service = self.service().await;
        if !events.is_empty() {
            self.publisher.publish(events).await.unwrap();
        }
        service.until_idle().await.unwrap();
        service.stop().await.unwrap();
    }

    pub(crate) async fn verify(&self) -> Report {
        verify(&self.ports, &Self::options(), &|_| {}).await.unwrap()
    }

    /// The differences: the store, the kind and the fields of the chunk.
    pub(crate) async fn differences(&self, id: Uuid) -> Vec<(&'static str, &'static str, String)> {
        let report = self.verify().await;
        let of = |d: &Difference| (d.store.as_str(), d.kind.as_str(), d.fields.join(" "));
        assert!(report.differences.iter().all(|d| d.id == id), "another chunk differs: {:?}", report.differences);
        report.differences.iter().map(of).collect()
    }

    pub(crate) async fn repair(&self, orphans: Orphans) -> RepairOutcome {
        let findings = self.verify().await.findings;
        let plan = plan(&findings, orphans);
        let service = self.service().await;
        let published = publish(&self.ports, &self.publisher, &plan, &|_| {}).await.unwrap();
        if let Some(last) = published.last {
            until_finished(&*self.ports.bus, last, &|_| {}).await.unwrap();
        }
        service.stop().await.unwrap();
        let settled = look_again(&self.ports, &Self::options(), findings).await.unwrap();
        let remaining = settled.findings.into_iter().flat_map(|finding| finding.differences).collect();
        RepairOutcome { plan, remaining }
    }

    /// Repairs, and asserts that nothing differs any more.
    pub(crate) async fn repair_all(&self, orphans: Orphans) -> Vec<Step> {
        let complete = self.repair(orphans).await;
        assert_eq!(complete.remaining, [], "{:?}", complete.plan);
        let report = self.verify().await;
        assert!(report.consistent, "{:?}", report.differences);
        complete.plan
    }

    /// The version in the chunk's record.
    pub(crate) async fn version(&self, id: Uuid) -> SyncVersion {
        self.ports.records.rows_of(&[id]).await.unwrap()[0].as_ref().unwrap().version
    }

    pub(crate) async fn row(&self, id: Uuid) -> Option<Arc<State>> {
        self.ports.records.rows_of(&[id]).await.unwrap().pop().flatten()?.state
    }

    /// Changes the row without the service.
    pub(crate) async fn change_row(&self, id: Uuid, change: impl FnOnce(&mut State)) {
        let mut row = State::clone(&self.row(id).await.expect("the chunk has no row"));
        change(&mut row);
        self.rows.write_row(id, Some(Arc::new(row)));
    }

    /// Deletes the row without the service.
    pub(crate) fn delete_row(&self, id: Uuid) {
        assert!(self.rows.write_row(id, None), "the chunk had no row");
    }
}

/// Waits until the first gap is closed.
pub(crate) async fn gap_is_closed(capturing: &Capturing) {
    let closed = || async {
        let state = capturing.monitor().state();
        if state.gaps == 1 && state.gap.is_none() { Ok(()) } else { Err("the gap is open") }
    };
    eventually(closed).await;
}

/// A deletion of a chunk by claude, made now.
pub(crate) fn delete(id: Uuid) -> Event {
    let now: Time = jiff::Timestamp::now().into();
    Event {
        event_id: Uuid::new_v5(&id, b"delete"),
        kind: EventType::Delete,
        source: Origin::Claude,
        writer: Writer::Claude,
        targets: Target::ALL.to_vec(),
        body: Body::Id(id),
        timestamp: now,
        retry_count: 0,
        unchanged: Vec::new(),
        set: Vec::new(),
        position: None,
    }
}
