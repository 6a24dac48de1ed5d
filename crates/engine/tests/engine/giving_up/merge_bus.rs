//! The same with a bus in the database of the records: the merge finishes entries, and the outbox has what stores miss.

use std::time::Duration;

use chunk_sync_engine::ports::{Bus, Outbox as _, WaitingEvents as _};
use chunk_sync_model::{Event, Target};

use super::world::{World, event, events, until};

/// The number of writes in the outbox for vectors and graph.
async fn pending(world: &World) -> (u64, u64) {
    let counts = world.records.outbox_counts().await.unwrap();
    (counts[&Target::Qdrant], counts[&Target::Neo4j])
}

fn logged(world: &World) -> u64 {
    let files = std::fs::read_dir(world.dir.path().join("wal")).unwrap();
    files.map(|file| file.unwrap()).filter(|file| file.file_name() != "LOCK").map(|f| f.metadata().unwrap().len()).sum()
}

fn refuse(world: &World, events: &[Event]) {
    world.vectors.faults.refused.lock().unwrap().extend(events.iter().map(Event::chunk_id));
}

#[tokio::test]
async fn nothing_is_logged_and_nothing_stays_in_the_outbox() {
    let world = World::beside();
    let service = world.service().await;
    let before = logged(&world);
    let events = events("sound", 300);
    world.publisher().publish(events.clone()).await.unwrap();
    service.until_idle().await.unwrap();
    for event in &events {
        assert!(world.holds(event).await);
    }
    assert_eq!(pending(&world).await, (0, 0));
    assert_eq!(service.health().done.completed, 300);
    service.stop().await.unwrap();
    assert_eq!(logged(&world), before);
}

#[test]
fn a_crash_after_the_merge_leaves_the_writes_in_the_outbox() {
    let mut world = World::beside();
    let [one, two] = ["one", "two"].map(event);
    world.vectors.faults.deadly.lock().unwrap().insert(two.chunk_id());
    let published = vec![one.clone(), two.clone()];
    world.process(async |world| drop(world.publisher().publish(published).await.unwrap()));
    world.dies();
    world.process(async |world| {
        assert_eq!(world.bus.depth().await.unwrap().oldest, None, "the merge has finished both");
        assert_eq!(pending(world).await.0, 2);
    });
    world.vectors.faults.deadly.lock().unwrap().clear();
    world.process(async |world| {
        let service = world.service().await;
        service.until_idle().await.unwrap();
        assert!(world.holds(&one).await && world.holds(&two).await, "idle is when the outbox is drained");
        assert_eq!(pending(world).await, (0, 0));
        service.stop().await.unwrap();
        assert!(world.letters().await.is_empty());
    });
}

#[tokio::test]
async fn a_refused_write_is_dead_lettered_and_leaves_the_outbox() {
    let world = World::beside();
    let (sound, poison) = (event("sound"), event("poison"));
    refuse(&world, std::slice::from_ref(&poison));
    let published = world.publisher().publish(vec![poison.clone(), sound.clone()]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1);
    let reasons = letters[0].reasons();
    assert_eq!((reasons.missing, reasons.stream_id), (vec![Target::Qdrant], published[0].to_string()));
    assert!(world.holds(&sound).await && !world.holds(&poison).await);
    assert_eq!(pending(&world).await, (0, 0));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn writes_stay_in_the_outbox_while_a_store_refuses_nearly_everything() {
    let world = World::beside();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    until("the service holds the events", async || service.health().held.is_some()).await;
    assert!(world.letters().await.is_empty());
    assert_eq!((world.bus.depth().await.unwrap().oldest, pending(&world).await.0), (None, 60));
    world.vectors.faults.refused.lock().unwrap().clear();
    service.until_idle().await.unwrap();
    for event in &events {
        assert!(world.holds(event).await);
    }
    assert!(world.letters().await.is_empty());
    assert_eq!(pending(&world).await, (0, 0));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_while_writes_stay_in_the_outbox_loses_nothing() {
    let world = World::beside();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    until("the service holds the events", async || service.health().held.is_some()).await;
    service.stop().await.unwrap();
    assert_eq!(pending(&world).await.0, 60);
    world.vectors.faults.refused.lock().unwrap().clear();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert_eq!(pending(&world).await, (0, 0));
    assert!(world.holds(&events[59]).await && world.letters().await.is_empty());
}

#[tokio::test]
async fn a_repeatedly_refused_write_without_its_event_does_not_delay_idle() {
    let world = World::beside();
    let events = events("sound", 60);
    refuse(&world, &events);
    let service = world.service().await;
    world.publisher().publish(events.clone()).await.unwrap();
    until("the service holds the events", async || service.health().held.is_some()).await;
    service.stop().await.unwrap();
    // Left by the last process, without its events: only the store can decide what becomes of it.
    let ids: Vec<_> = events.iter().map(Event::chunk_id).collect();
    let waiting = world.records.waiting_of(&ids, 100).await.unwrap();
    world.records.remove_waiting(&waiting.iter().map(|event| event.number).collect::<Vec<_>>()).await.unwrap();
    let service = world.service().await;
    tokio::time::timeout(Duration::from_secs(20), service.until_idle()).await.expect("never idle").unwrap();
    let condition = &service.health().stores[0];
    assert_eq!((condition.0, condition.1.refused, pending(&world).await.0), (Target::Qdrant, 60, 60));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn entries_that_are_no_events_are_dead_lettered_without_a_merge() {
    let world = World::beside();
    for i in 0..30 {
        world.bus.add(vec![(b"chunk".to_vec(), format!("{{broken {i}").into_bytes())]);
    }
    let service = world.service().await;
    service.until_idle().await.unwrap();
    assert_eq!((world.letters().await.len(), pending(&world).await), (30, (0, 0)));
    service.stop().await.unwrap();
}
