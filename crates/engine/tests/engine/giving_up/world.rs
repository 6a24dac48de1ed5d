//! Ports in memory that outlive the processes, a store that refuses chunks or stops answering, and processes that can
//! be killed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Counts, DeadLetters as _, DocumentPage, Fault, FaultClass, FinishedBy, Letter, Projection, StoredDocument,
    Write,
};
use chunk_sync_engine::{Ports, Publisher, Service, Settings, WorkerSettings};
use chunk_sync_model::document::Document;
use chunk_sync_model::{Event, Limits, State, Target};
use chunk_sync_testkit::memory::{MemoryBus, MemoryRecords, MemoryStore, memory_ports};
use chunk_sync_testkit::states::{bare, state};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

/// What the store does with some chunks.
#[derive(Default)]
pub(crate) struct StoreFaults {
    pub(crate) refused: Mutex<BTreeSet<Uuid>>,
    /// Chunks whose call is refused as a whole.
    pub(crate) poison: Mutex<BTreeSet<Uuid>>,
    /// Chunks at which the client panics.
    pub(crate) panics: Mutex<BTreeSet<Uuid>>,
    /// A call with more writes is refused as a whole.
    pub(crate) most: Mutex<Option<usize>>,
    pub(crate) deadly: Mutex<BTreeSet<Uuid>>,
    /// A chunk whose write takes longer than the client waits, and how long the client waits.
    pub(crate) heavy: Mutex<Option<(Uuid, Duration)>>,
    /// The number of writes in each call, and in each call with the heavy chunk.
    calls: Mutex<Vec<usize>>,
    heavy_calls: Mutex<Vec<usize>>,
    /// The client cannot connect.
    down: AtomicBool,
    /// No call gets an answer in time.
    stalled: AtomicBool,
    /// Notified when the store is about to end the process.
    reached: Notify,
}

impl StoreFaults {
    /// The number of writes in each call with the heavy chunk so far.
    pub(crate) fn heavy_calls(&self) -> Vec<usize> {
        self.heavy_calls.lock().unwrap().clone()
    }

    /// The number of writes in each call so far.
    pub(crate) fn calls(&self) -> Vec<usize> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Why a call with these writes fails as a whole, if it does.
    async fn fails(&self, writes: &[Write]) -> Option<Fault> {
        if self.down.load(Ordering::SeqCst) {
            return Some(Fault::new(FaultClass::Unavailable, "moody", "down"));
        }
        let has = |chunks: &Mutex<BTreeSet<Uuid>>| {
            let chunks = chunks.lock().unwrap();
            writes.iter().any(|write| chunks.contains(&write.id))
        };
        if has(&self.panics) {
            // No panic message: this panic is intended.
            std::panic::resume_unwind(Box::new("of the client"));
        }
        let refused = |class, message| {
            let divisible = writes.len() > 1;
            Some(Fault { divisible, ..Fault::new(class, "moody", message) })
        };
        if has(&self.poison) {
            return refused(FaultClass::Rejected, "refused with the whole request");
        }
        if self.most.lock().unwrap().is_some_and(|most| writes.len() > most) {
            return refused(FaultClass::Misconfigured, "too many writes");
        }
        let heavy = *self.heavy.lock().unwrap();
        let heavy = heavy.filter(|(chunk, _)| writes.iter().any(|write| write.id == *chunk)).map(|(_, wait)| wait);
        let stalled = Some(STALL).filter(|_| self.stalled.load(Ordering::SeqCst));
        if heavy.is_some() {
            self.heavy_calls.lock().unwrap().push(writes.len());
        }
        tokio::time::sleep(heavy.or(stalled)?).await;
        Some(Fault::new(FaultClass::Timeout, "moody", "no answer in time"))
    }
}

/// How long the client of a stalled store waits.
const STALL: Duration = Duration::from_millis(20);

/// Vectors in memory, in a store that refuses some chunks, and ends the process at others by never answering.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    pub(crate) store: MemoryStore,
    pub(crate) faults: Arc<StoreFaults>,
}

#[async_trait]
impl Projection for FaultyStore {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.store.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        if writes.iter().any(|write| self.faults.deadly.lock().unwrap().contains(&write.id)) {
            self.faults.reached.notify_one();
            std::future::pending::<()>().await;
        }
        self.faults.calls.lock().unwrap().push(writes.len());
        if let Some(fault) = self.faults.fails(writes).await {
            return vec![Applied::Failed(fault); writes.len()];
        }
        let mut applied = Vec::new();
        for write in writes {
            if self.faults.refused.lock().unwrap().contains(&write.id) {
                applied.push(Applied::Failed(Fault::new(FaultClass::Rejected, "moody", "refused by the test")));
            } else {
                applied.extend(self.store.apply(std::slice::from_ref(write)).await);
            }
        }
        applied
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.store.fetch_documents(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.store.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.store.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.faults.fails(&[]).await.map_or(Ok(()), Err)
    }
}

/// The servers and files, which outlive a process.
pub(crate) struct World {
    pub(crate) bus: MemoryBus,
    pub(crate) vectors: FaultyStore,
    pub(crate) records: MemoryRecords,
    graph: MemoryStore,
    pub(crate) worker: WorkerSettings,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(MemoryBus::default(), MemoryRecords::default())
    }

    /// A world whose bus is in the database of the records, so that a merge finishes its entries.
    pub(crate) fn beside() -> Self {
        let bus = MemoryBus::of(usize::MAX, FinishedBy::Merge);
        let records = MemoryRecords::beside(&bus);
        Self::of(bus, records)
    }

    pub(crate) fn of(bus: MemoryBus, records: MemoryRecords) -> Self {
        let store = |target| MemoryStore::new(target, Limits::default());
        let retry_max = Duration::from_millis(50);
        let worker = WorkerSettings { wait: Duration::from_millis(20), retry_max, ..WorkerSettings::default() };
        Self {
            bus,
            vectors: FaultyStore { store: store(Target::Qdrant), faults: Arc::default() },
            records,
            graph: store(Target::Neo4j),
            worker,
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        let stores: Vec<Arc<dyn Projection>> = vec![Arc::new(self.vectors.clone()), Arc::new(self.graph.clone())];
        memory_ports(&self.bus, &self.records, stores)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { worker: self.worker.clone(), ..Settings::new(self.dir.path().join("wal")) }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(Arc::new(self.bus.clone()), Arc::new(Limits::default()))
    }

    pub(crate) async fn service(&self) -> Service {
        Service::start(self.ports(), self.settings()).await.unwrap()
    }

    /// Starts a process and kills it where the store ends it.
    pub(crate) fn dies(&mut self) {
        self.process(async |world| {
            let _service = world.service().await;
            let reached = world.vectors.faults.reached.notified();
            tokio::time::timeout(Duration::from_secs(20), reached).await.expect("no process was ended");
        });
    }

    /// Runs a process that does something and is killed as soon as it has; the bus hands its entries to the next
    /// process.
    pub(crate) fn process(&mut self, work: impl AsyncFnOnce(&Self)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(work(self));
        drop(runtime);
        self.bus.end();
        self.bus = self.bus.another();
    }

    pub(crate) async fn letters(&self) -> Vec<Letter> {
        self.bus.dead(None, usize::MAX).await.unwrap()
    }

    pub(crate) async fn holds(&self, event: &Event) -> bool {
        self.vectors.fetch_documents(&[event.chunk_id()]).await.unwrap()[0].is_some()
    }
}

/// An event about the chunk of that name.
pub(crate) fn event(name: &str) -> Event {
    Event::of_chunk(state(&bare(name)).chunk.clone())
}

/// Events about `count` chunks.
pub(crate) fn events(name: &str, count: usize) -> Vec<Event> {
    (0..count).map(|i| event(&format!("{name} {i}"))).collect()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}
