//! While events go on, chunks on their way are not reported as differences, and a true difference is found.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, Projection, StoredDocument, Write};
use chunk_sync_engine::scrub::{ScrubSettings, Scrubbed, Scrubbing};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_model::document::Document;
use chunk_sync_model::{Event, State, SyncVersion, Target, Time};
use chunk_sync_testkit::states::{changed, states};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::world::World;

/// A store that answers late, and sometimes much later.
struct Slow {
    inner: Arc<dyn Projection>,
    calls: AtomicU64,
}

#[async_trait]
impl Projection for Slow {
    fn target(&self) -> Target {
        self.inner.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.inner.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(if call % 10 == 9 { 1_500 } else { 40 })).await;
        self.inner.apply(writes).await
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.inner.fetch_documents(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.inner.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.inner.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.inner.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.inner.check().await
    }
}

/// Changes chunks in turn until `stop` is set, and counts the changes.
async fn change(world: &World, states: &[Arc<State>], stop: &AtomicBool, made: &AtomicU64) {
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        let events: Vec<Event> = (0..64)
            .map(|i| {
                let state = &states[(changes as usize + i) % states.len()];
                let mut event =
                    Event::of_chunk(changed(state, &format!("change number {}", changes as usize + i)).chunk.clone());
                event.timestamp = Time::from_micros(1_790_000_000_000_000 + (changes as i64 + i as i64) * 1_000);
                event.event_id = Uuid::new_v5(&state.chunk.id, event.timestamp.to_string().as_bytes());
                event
            })
            .collect();
        changes += events.len() as u64;
        world.publisher.publish(events).await.unwrap();
        made.store(changes, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_on_their_way_are_no_differences_and_a_true_one_is_found_among_them() {
    let states = states(400);
    let mut world = World::with(&states).await;
    let slow = |store: &Arc<dyn Projection>| Arc::new(Slow { inner: Arc::clone(store), calls: AtomicU64::new(0) }) as _;
    world.ports.stores = world.ports.stores.iter().map(slow).collect();
    let service = world.service().await;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    // The last ten are left alone, and one of them is damaged.
    let damaged = states[395].chunk.id;
    world.vectors.tamper(damaged, SyncVersion::default(), None);
    let verifying = async {
        let began = Instant::now();
        let (mut rounds, mut suspected) = (0, 0);
        while rounds < 3 || began.elapsed() < Duration::from_secs(6) || made.load(Ordering::Relaxed) < 1_000 {
            let options = Options { page: 64, patience: Duration::from_secs(6), ..Options::default() };
            let report = verify(&world.ports, &options, &|_| {}).await.unwrap();
            let ids: Vec<Uuid> = report.differences.iter().map(|difference| difference.id).collect();
            assert_eq!(ids, [damaged], "{:?}", report.differences);
            suspected += report.unsettled;
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        suspected
    };
    let (unsettled, ()) = tokio::join!(verifying, change(&world, &states[..390], &stop, &made));
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let report = world.verify().await;
    assert_eq!((report.differing, report.unsettled), (1, 0), "{unsettled} did not stand still before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrubber_finds_repairs_and_reports_what_differs() {
    let states = states(30);
    let world = World::with(&states).await;
    let service = world.service().await;
    world.vectors.tamper(states[3].chunk.id, SyncVersion::default(), None);
    let stray = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"a stray");
    world.vectors.tamper(stray, SyncVersion::default(), Some(&states[4]));
    let (sender, mut passes) = mpsc::unbounded_channel::<Scrubbed>();
    let sender = Mutex::new(sender);
    let told = Arc::new(move |scrubbed: &Scrubbed| drop(sender.lock().unwrap().send(scrubbed.clone())));
    let settings = ScrubSettings { interval: Duration::from_millis(50), rate: 10_000, repair: true };
    let leadership = service.leadership();
    let scrubbing = Scrubbing::start(world.ports.clone(), world.publisher.clone(), settings, leadership, told);
    let first = passes.recv().await.unwrap();
    assert_eq!((first.report.differing, first.repaired, first.undecided), (2, 1, 1));
    let second = passes.recv().await.unwrap();
    assert_eq!((second.report.differing, second.repaired, second.undecided), (1, 0, 1));
    world.vectors.tamper(stray, SyncVersion::default(), None);
    let last = loop {
        let pass = passes.recv().await.unwrap();
        if pass.report.consistent {
            break pass;
        }
    };
    assert_eq!(last.report.chunks, 30);
    scrubbing.stop().await;
    service.stop().await.unwrap();
}
