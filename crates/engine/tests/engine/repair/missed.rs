//! What capture missed is carried without the scrubber: after a gap the stores are compared with the rows, and the rows of a
//! new partition are backfilled.

use chunk_sync_engine::absence::Guard;
use chunk_sync_model::SyncVersion;
use chunk_sync_testkit::eventually;
use chunk_sync_testkit::memory::MemoryCapture;
use chunk_sync_testkit::states::{changed, states};

use super::world::{World, gap_is_closed};

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_differ_are_repaired_after_a_gap() {
    let states = states(4);
    let world = World::with(&states).await;
    let (capture, service) = (MemoryCapture::default(), world.service().await);
    let before = world.captures(&capture, &service);
    capture.write(&world.rows, states[0].clone(), jiff::Timestamp::now().into());
    eventually(|| async { capture.is_confirmed().then_some(()).ok_or("the write is not captured") }).await;
    before.stop().await;
    // Every row is as it was last seen, so a backfill carries none of them.
    let altered = states[2].chunk.id;
    world.vectors.tamper(states[1].chunk.id, SyncVersion::default(), None);
    world.graph.tamper(altered, world.version(altered).await, Some(&changed(&states[2], "of another program")));
    capture.write(&world.rows, changed(&states[3], "missed by capture"), jiff::Timestamp::now().into());
    capture.lose();
    let after = world.captures(&capture, &service);
    gap_is_closed(&after).await;
    service.until_idle().await.unwrap();
    after.stop().await;
    service.stop().await.unwrap();
    let report = world.verify().await;
    assert!(report.consistent, "{:?}", report.differences);
    assert_eq!(world.row(states[3].chunk.id).await.unwrap().chunk.content, "missed by capture");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_new_partition_are_carried() {
    let states = states(5);
    let world = World::with(&states[..2]).await;
    world.rows.attach_partition(&states[2..]);
    let service = world.service().await;
    let guard = Guard::start(world.ports.clone(), world.publisher.clone(), None, service.leadership());
    let recorded = || async { (world.rows.recorded_partitions() == 1).then_some(()).ok_or("not on record") };
    eventually(recorded).await;
    service.until_idle().await.unwrap();
    guard.stop().await;
    service.stop().await.unwrap();
    let report = world.verify().await;
    assert!(report.consistent, "{:?}", report.differences);
    assert_eq!(report.chunks, 5);
}
