//! A row that was captured before other connections see it: it is signalled once they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::Capturing;
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Opened};
use chunk_sync_testkit::eventually;
use chunk_sync_testkit::memory::MemoryCapture;
use chunk_sync_testkit::states::states;
use tokio::sync::Semaphore;

use super::world::World;

/// A log that hands out transactions before they are visible: the first wait takes too long, the next one ends with a
/// permit.
struct Early {
    capture: MemoryCapture,
    waits: AtomicUsize,
    visible: Semaphore,
}

#[async_trait]
impl Capture for Early {
    async fn prepare(&self) -> Result<(), Fault> {
        self.capture.prepare().await
    }

    async fn open(&self) -> Result<Opened, Fault> {
        self.capture.open().await
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.capture.heartbeat().await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        self.capture.lag().await
    }

    async fn until_visible(&self, transactions: &[u32]) -> Result<(), Fault> {
        assert_eq!(transactions.len(), 1);
        if self.waits.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(Fault::new(FaultClass::Timeout, "test", "not visible yet"));
        }
        self.visible.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_signalled_once_it_is_visible() {
    let states = states(1);
    let world = World::empty();
    let service = world.service().await;
    let (capture, waits, visible) = (MemoryCapture::default(), AtomicUsize::new(0), Semaphore::new(0));
    let early = Arc::new(Early { capture, waits, visible });
    let (ports, publisher) = (world.ports.clone(), world.publisher.clone());
    let capturing = Capturing::start(early.clone(), ports, publisher, Arc::new(world.settings()), service.leadership());
    early.capture.write(&world.rows, Arc::clone(&states[0]), jiff::Timestamp::now().into());
    eventually(|| async { (early.waits.load(Ordering::SeqCst) == 2).then_some(()).ok_or("one wait") }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let id = states[0].chunk.id;
    let held = || async { world.ports.stores[0].fetch_documents(&[id]).await.unwrap().remove(0) };
    assert!(world.ports.bus.depth().await.unwrap().oldest.is_none() && held().await.is_none());
    early.visible.add_permits(1);
    eventually(|| async { held().await.map(drop).ok_or("the row is not carried") }).await;
    capturing.stop().await;
    service.stop().await.unwrap();
}
