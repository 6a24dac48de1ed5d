//! A write that takes longer than the store's client waits: its call fails as a whole. It delays no other chunk and no
//! other store, neither when it is sent directly nor when the outbox is drained.

use std::time::Duration;

use chunk_sync_engine::ports::{Bus, Outbox as _};
use chunk_sync_model::{Event, Target};

use super::world::{World, event, events, until};

/// How long the client of the store waits.
const TIMEOUT: Duration = Duration::from_millis(300);

fn heavy(mut world: World) -> (World, Event) {
    world.worker.patience = Duration::from_millis(100);
    let heavy = event("heavy");
    world.vectors.faults.heavy.lock().unwrap().replace((heavy.chunk_id(), TIMEOUT));
    (world, heavy)
}

async fn pending(world: &World) -> u64 {
    world.records.outbox_counts().await.unwrap()[&Target::Qdrant]
}

async fn all_held(world: &World, events: &[Event]) -> bool {
    for event in events {
        if !world.holds(event).await {
            return false;
        }
    }
    true
}

/// Whether the entries of all events are finished, the heavy one included: the outbox has it.
async fn finished(world: &World) -> bool {
    let depth = world.bus.depth().await.unwrap();
    depth.unread == 0 && depth.oldest.is_none()
}

async fn delays_no_other(world: World) {
    let (world, heavy) = heavy(world);
    let sound = events("sound", 100);
    let service = world.service().await;
    let batch = [&sound[..50], std::slice::from_ref(&heavy), &sound[50..]].concat();
    world.publisher().publish(batch).await.unwrap();
    until("the sound chunks are held", async || all_held(&world, &sound).await).await;
    until("all entries are finished", async || finished(&world).await).await;
    until("only the heavy write is left", async || pending(&world).await == 1).await;
    // It is attempted alone from now on, and others never wait for it.
    let calls = || world.vectors.faults.heavy_calls();
    until("it is alone", async || calls().last() == Some(&1)).await;
    let known = calls().len();
    let later = events("later", 20);
    for event in &later {
        world.publisher().publish(vec![event.clone()]).await.unwrap();
        until("a later chunk is held", async || world.holds(event).await).await;
    }
    assert!(!world.holds(&heavy).await);
    until("it is attempted again", async || calls().len() > known).await;
    assert!(calls()[known..].iter().all(|writes| *writes == 1), "sent with others although it is known: {:?}", calls());
    world.vectors.faults.heavy.lock().unwrap().take();
    until("the heavy chunk is held", async || world.holds(&heavy).await).await;
    until("the outbox is empty", async || pending(&world).await == 0).await;
    assert!(world.letters().await.is_empty());
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_heavy_write_delays_no_other_when_it_is_sent_directly() {
    delays_no_other(World::new()).await;
}

#[tokio::test]
async fn a_heavy_write_delays_no_other_when_the_merge_finishes_the_entries() {
    delays_no_other(World::beside()).await;
}

#[tokio::test]
async fn a_heavy_write_delays_no_other_when_the_outbox_is_drained() {
    let (world, heavy) = heavy(World::new());
    let sound = events("sound", 300);
    world.vectors.faults.set_down(true);
    let service = world.service().await;
    let batch = [&sound[..100], std::slice::from_ref(&heavy), &sound[100..]].concat();
    world.publisher().publish(batch).await.unwrap();
    until("the outbox has everything", async || pending(&world).await == 301).await;
    world.vectors.faults.set_down(false);
    until("the sound chunks are held", async || all_held(&world, &sound).await).await;
    until("only the heavy write is left", async || pending(&world).await == 1).await;
    let later = event("later");
    world.publisher().publish(vec![later.clone()]).await.unwrap();
    until("a later chunk is held", async || world.holds(&later).await).await;
    world.vectors.faults.heavy.lock().unwrap().take();
    until("the heavy chunk is held", async || world.holds(&heavy).await).await;
    until("the outbox is empty", async || pending(&world).await == 0).await;
    service.stop().await.unwrap();
}

/// A store that does not answer at all has no culprit: everything arrives once it answers.
#[tokio::test]
async fn a_store_that_stands_still_has_no_culprit() {
    let mut world = World::new();
    world.worker.patience = Duration::from_millis(100);
    let sound = events("sound", 60);
    world.vectors.faults.set_stalled(true);
    let service = world.service().await;
    world.publisher().publish(sound.clone()).await.unwrap();
    until("the outbox has everything", async || pending(&world).await == 60).await;
    world.vectors.faults.set_stalled(false);
    until("all are held", async || all_held(&world, &sound).await).await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
}
