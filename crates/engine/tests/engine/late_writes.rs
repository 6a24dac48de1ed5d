//! A write that a network held back reaches a store over a newer state of a living chunk, and the store does not compare
//! versions.

use std::time::Duration;

use chunk_sync_engine::Service;
use chunk_sync_engine::ports::{Outbox as _, Projection, SystemOfRecord as _, WatchList as _, Watched};
use chunk_sync_model::{Body, Event, SyncVersion, Target};
use uuid::Uuid;

use crate::giving_up::world::{World, event};

/// The next version of the chunk.
fn changed(event: &Event) -> Event {
    let Body::Chunk(mut chunk) = event.body.clone() else { panic!("an event with a chunk") };
    chunk.content = format!("{}, changed", chunk.content);
    Event { event_id: Uuid::new_v4(), timestamp: jiff::Timestamp::now().into(), ..Event::of_chunk(*chunk) }
}

async fn carry(world: &World, service: &Service, events: Vec<Event>) {
    world.publisher().publish(events).await.unwrap();
    service.until_idle().await.unwrap();
}

async fn recorded(world: &World, id: Uuid) -> SyncVersion {
    world.records.rows_of(&[id]).await.unwrap()[0].as_ref().unwrap().version
}

/// The version that the store shows.
async fn shown(world: &World, id: Uuid) -> SyncVersion {
    world.vectors.fetch_documents(&[id]).await.unwrap()[0].as_ref().unwrap().version
}

#[tokio::test(start_paused = true)]
async fn a_newer_state_that_the_store_had_is_put_back_and_one_that_it_refused_is_not() {
    let world = World::new();
    let service = world.service().await;
    let older = ["overtaken", "refused", "overtaken as well"].map(event);
    let ids = older.each_ref().map(Event::chunk_id);
    let watched = ids.map(|id| Watched { id, target: Target::Qdrant });
    world.records.watch(&watched, Duration::from_secs(3_600)).await.unwrap();
    carry(&world, &service, older.to_vec()).await;
    let before = world.vectors.store.backup();
    world.vectors.faults.refused.lock().unwrap().insert(ids[1]);
    carry(&world, &service, older.iter().map(changed).collect()).await;
    assert_eq!(world.letters().await.len(), 1, "the refused one");
    // The late writes arrive: the store goes back to the older states.
    for id in ids {
        assert_eq!(shown(&world, id).await < recorded(&world, id).await, id == ids[1]);
    }
    world.vectors.store.restore(before);
    assert!(shown(&world, ids[0]).await < recorded(&world, ids[0]).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for id in [ids[0], ids[2]] {
        assert_eq!(shown(&world, id).await, recorded(&world, id).await, "written again within a minute");
    }
    assert!(shown(&world, ids[1]).await < recorded(&world, ids[1]).await);
    assert_eq!(
        world.records.outbox_counts().await.unwrap()[&Target::Qdrant],
        0,
        "the refused one is not in the outbox"
    );
    service.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_process_before_has_written_is_put_back_once_a_look_has_found_it() {
    let world = World::new();
    let (older, service) = (event("overtaken"), world.service().await);
    let id = older.chunk_id();
    carry(&world, &service, vec![older.clone()]).await;
    let before = world.vectors.store.backup();
    carry(&world, &service, vec![changed(&older)]).await;
    let watched = [Watched { id, target: Target::Qdrant }];
    world.records.watch(&watched, Duration::from_secs(3_600)).await.unwrap();
    service.stop().await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.vectors.store.restore(before);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shown(&world, id).await, recorded(&world, id).await);
    service.stop().await.unwrap();
}
