//! A log that takes longer to read than a term of the lease lasts.

use std::io::Result;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::Service;
use chunk_sync_engine::ports::Lease as _;
use chunk_sync_wal::disk::{Disk, DiskFile};
use chunk_sync_wal::testing::CrashDisk;
use uuid::Uuid;

use super::giving_up::world::{World, event, until};

/// More than a term.
const SLOW: Duration = Duration::from_secs(2);

/// A disk whose files take long to list, as the first step of reading a log.
#[derive(Debug, Default)]
struct SlowDisk(CrashDisk);

impl Disk for SlowDisk {
    fn list(&self) -> Result<Vec<(String, u64)>> {
        std::thread::sleep(SLOW);
        self.0.list()
    }

    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>> {
        self.0.create(name)
    }

    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>> {
        self.0.open(name)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> Result<()> {
        self.0.sync_dir()
    }

    fn blocks(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_process_that_has_lost_the_lease_works_again_although_its_log_takes_long_to_read() {
    let world = World::new();
    let service = Service::start_on(Arc::new(SlowDisk::default()), world.ports(), world.settings()).await.unwrap();
    let (before, after) = (event("before"), event("after"));
    world.publisher().publish(vec![before.clone()]).await.unwrap();
    until("the first event is carried", async || world.holds(&before).await).await;
    // Another process works the stream for a moment.
    let (other, token) = (world.records.lease("another"), Uuid::new_v4());
    until("another process has the lease", async || {
        let seen = other.state().await.unwrap();
        other.take(&seen, token).await.unwrap()
    })
    .await;
    tokio::time::sleep(SLOW).await;
    other.release(token).await.unwrap();
    world.publisher().publish(vec![after.clone()]).await.unwrap();
    until("the next event is carried", async || world.holds(&after).await).await;
    service.stop().await.unwrap();
}
