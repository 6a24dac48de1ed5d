//! Writes of the outbox that a store refuses cost little while they stay there.

use std::time::Duration;

use chunk_sync_engine::ports::{Outbox as _, PendingWrite, SystemOfRecord as _};
use chunk_sync_model::{Event, Target};

use super::world::{World, events, until};

const REFUSED: usize = 1_000;

/// Puts the recorded states of these chunks into the outbox.
async fn enqueue(world: &World, events: &[Event]) {
    let ids: Vec<_> = events.iter().map(Event::chunk_id).collect();
    let rows = world.records.rows_of(&ids).await.unwrap();
    let pending =
        |row: chunk_sync_engine::ports::Row| PendingWrite { id: row.id, target: Target::Qdrant, version: row.version };
    let pending: Vec<_> = rows.into_iter().flatten().map(pending).collect();
    assert_eq!(pending.len(), events.len());
    world.records.enqueue(&pending).await.unwrap();
}

async fn pending(world: &World) -> usize {
    usize::try_from(world.records.outbox_counts().await.unwrap()[&Target::Qdrant]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_refused_writes_are_read_every_ten_seconds_and_their_rows_once() {
    let world = World::new();
    let (refused, sound) = (events("refused", REFUSED), events("sound", 500));
    let service = world.service().await;
    world.publisher().publish([&refused[..], &sound].concat()).await.unwrap();
    service.until_idle().await.unwrap();
    world.vectors.faults.refused.lock().unwrap().extend(refused.iter().map(Event::chunk_id));
    enqueue(&world, &refused).await;
    let before = world.records.reads();
    until("all are refused", async || service.health().stores[0].1.refused == REFUSED as u64).await;
    let (known, sent) = (world.records.reads(), world.vectors.faults.calls().len());
    assert_eq!(known.rows - before.rows, REFUSED, "each row was read once");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let later = world.records.reads();
    let calls = later.outbox_calls - known.outbox_calls;
    assert!(calls <= 14, "{calls} reads in a minute by two stores");
    assert!(later.outbox_entries - known.outbox_entries <= 7 * REFUSED);
    assert_eq!((later.rows, world.vectors.faults.calls().len()), (known.rows, sent), "no row is read, nothing is sent");
    // Others beside them are drained as ever.
    enqueue(&world, &sound).await;
    let before = world.records.reads();
    until("the others are drained", async || pending(&world).await == REFUSED).await;
    let after = world.records.reads();
    assert_eq!(after.rows - before.rows, sound.len(), "only their rows are read");
    assert!(after.outbox_calls - before.outbox_calls <= 10);
    service.stop().await.unwrap();
}
