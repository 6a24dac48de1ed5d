//! A database that takes no writes for a while: no signal is published that could only wait for a merge.

use chunk_sync_engine::backfill::backfill;
use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_engine::repair::{Orphans, plan, publish};
use chunk_sync_model::SyncVersion;
use chunk_sync_testkit::states::states;

use super::world::World;

fn assert_refused<T: std::fmt::Debug>(done: Result<T, Fault>) {
    let fault = done.unwrap_err();
    assert!(fault.class == FaultClass::Unavailable && fault.message.contains("read-only"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_gets_no_signals_until_it_takes_them() {
    let states = states(3);
    let world = World::with(&states).await;
    world.change_row(states[0].chunk.id, |row| row.chunk.content = "of another program".into()).await;
    world.vectors.tamper(states[1].chunk.id, SyncVersion::default(), None);
    let steps = plan(&world.verify().await.findings, Orphans::List);
    assert_eq!(steps.len(), 2);
    world.rows.set_read_only(true);
    assert_refused(backfill(&world.ports, &world.publisher, None, &|_| {}).await);
    assert_refused(publish(&world.ports, &world.publisher, &steps, &|_| {}).await);
    let depth = world.ports.bus.depth().await.unwrap();
    assert_eq!(depth.unread + depth.pending, 0, "signals wait for a merge");
    world.rows.set_read_only(false);
    let done = backfill(&world.ports, &world.publisher, None, &|_| {}).await.unwrap();
    assert_eq!((done.rows, done.published), (3, 1));
    world.carry(Vec::new()).await;
    world.repair_all(Orphans::List).await;
}
