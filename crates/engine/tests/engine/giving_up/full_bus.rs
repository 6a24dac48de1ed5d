//! While the bus is full, capture waits in place.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Bus as _, FinishedBy};
use chunk_sync_engine::{Capturing, Phase};
use chunk_sync_model::State;
use chunk_sync_testkit::memory::{MemoryBus, MemoryCapture, MemoryRecords};
use chunk_sync_testkit::states::states;

use super::world::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capture_waits_in_place_while_the_bus_is_full() {
    const ROWS: usize = 40;
    const BOUND: usize = 10;
    let bus = MemoryBus::of(BOUND, FinishedBy::Acknowledgement);
    let mut world = World::of(bus, MemoryRecords::default());
    world.worker.batch = 1;
    world.worker.in_flight_events = 1;
    world.worker.patience = Duration::from_secs(60);
    world.vectors.faults.set_stalled(true);
    let (service, capture) = (world.service().await, MemoryCapture::default());
    let settings = Arc::new(world.settings());
    let capturing =
        Capturing::start(Arc::new(capture.clone()), world.ports(), world.publisher(), settings, service.leadership());
    let monitor = capturing.monitor();
    until("capture runs", async || monitor.state().phase == Phase::Running).await;
    let states = states(ROWS);
    let write = |some: &[Arc<State>]| {
        some.iter().for_each(|state| capture.write(&world.records, Arc::clone(state), jiff::Timestamp::now().into()));
    };
    write(&states[..ROWS / 2]);
    let waiting = async || {
        let depth = world.bus.depth().await.unwrap();
        depth.unread + depth.pending
    };
    until("the bus is full", async || waiting().await >= BOUND as u64).await;
    write(&states[ROWS / 2..]);
    until("capture waits", async || monitor.state().phase == Phase::BusFull).await;
    assert!(monitor.state().phase.runs() && !capture.is_confirmed());
    assert!(waiting().await < ROWS as u64, "some rows are not on the bus");

    world.vectors.faults.set_stalled(false);
    until("every row is carried", async || {
        let ids: Vec<_> = states.iter().map(|state| state.chunk.id).collect();
        let held = chunk_sync_engine::ports::Projection::fetch_documents(&world.vectors, &ids).await.unwrap();
        held.iter().all(Option::is_some) && capture.is_confirmed()
    })
    .await;
    service.until_idle().await.unwrap();
    assert_eq!((monitor.state().phase, monitor.state().gaps), (Phase::Running, 0));
    assert_eq!(service.health().done.completed, ROWS as u64, "nothing was read and published a second time");
    capturing.stop().await;
    service.stop().await.unwrap();
}
