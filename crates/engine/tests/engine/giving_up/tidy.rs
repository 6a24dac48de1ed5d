//! What is finished is removed, also while a part of that fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, Handover, Letter,
};
use chunk_sync_engine::{Clock, Ports, Service};
use chunk_sync_model::{Event, Time};
use chunk_sync_testkit::memory::MemoryBus;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::world::{World, event, until};

/// A bus that cannot be trimmed.
struct Untrimmed(MemoryBus);

#[async_trait]
impl Bus for Untrimmed {
    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        self.0.publish(events).await
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.0.begin(handover).await
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        self.0.read(max, wait).await
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.0.acknowledge(ids).await
    }

    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault> {
        self.0.erase(chunk, mode).await
    }

    async fn now(&self) -> Result<Time, Fault> {
        self.0.now().await
    }

    async fn epoch(&self) -> Result<String, Fault> {
        self.0.epoch().await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.0.depth().await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        Err(Fault::new(FaultClass::Unavailable, "test", "cannot be trimmed"))
    }
}

#[async_trait]
impl DeadLetters for Untrimmed {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.0.dead_letter(letters).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        self.0.dead(after, limit).await
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        self.0.dead_bytes().await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        self.0.drop_dead(id).await
    }
}

#[tokio::test]
async fn a_bus_that_fails_keeps_no_file_of_the_log() {
    let world = World::new();
    let service = world.service().await;
    world.publisher().publish(vec![event("finished")]).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let mut settings = world.settings();
    settings.wal.keep = Duration::ZERO;
    let files = || {
        let names = std::fs::read_dir(&settings.wal.dir).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("wal_")).collect::<Vec<_>>()
    };
    let first = files();
    assert_eq!(first.len(), 1, "{first:?}");
    // Two hours later, so that the file is not written any more.
    let later = || Timestamp::now() + SignedDuration::from_hours(2);
    world.bus.set_clock(move || later().into());
    let bus = Arc::new(Untrimmed(world.bus.clone()));
    let service =
        Service::start(Ports { bus, clock: Clock::new(later), ..world.ports() }, settings.clone()).await.unwrap();
    // With the first event of that hour another file begins.
    world.publisher().publish(vec![event("later")]).await.unwrap();
    until("the finished file is removed", async || !files().contains(&first[0])).await;
    service.stop().await.unwrap();
}
