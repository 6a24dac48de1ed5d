//! A dead letter that is published again, and one whose event is superseded.

use std::time::Duration;

use chunk_sync_engine::dead;
use chunk_sync_engine::ports::Bus;
use chunk_sync_model::{Event, Target};

use super::world::{World, event};

/// A world with one dead letter, of an event that Qdrant refused.
async fn with_a_letter(event: &Event) -> World {
    let world = World::new();
    world.vectors.faults.refused.lock().unwrap().insert(event.chunk_id());
    world.publisher().publish(vec![event.clone()]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert_eq!(world.letters().await.len(), 1);
    world.vectors.faults.refused.lock().unwrap().clear();
    world
}

#[tokio::test]
async fn a_letter_published_again_reaches_every_store() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let letter = world.letters().await.remove(0);
    let publisher = world.publisher();
    let read = publisher.read(&letter.original(), event.timestamp).unwrap();
    let again = dead::again(read, Some(Target::Qdrant));
    dead::retry(&world.bus, &publisher, letter.id, again).await.unwrap().expect("the bus returned no entry");
    assert!(world.letters().await.is_empty());
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(world.holds(&event).await && world.letters().await.is_empty());
}

#[tokio::test]
async fn a_crash_between_publishing_and_dropping_leaves_both_and_does_no_harm() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let letter = world.letters().await.remove(0);
    let publisher = world.publisher();
    let read = || publisher.read(&letter.original(), event.timestamp).unwrap();
    publisher.publish(vec![dead::again(read(), None)]).await.unwrap();
    // The same state as after a crash before the drop: the operator finds the letter and retries it once more.
    dead::retry(&world.bus, &publisher, letter.id, dead::again(read(), None)).await.unwrap();
    assert_eq!(world.bus.depth().await.unwrap().unread, 2);
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(world.holds(&event).await && world.letters().await.is_empty());
}

#[tokio::test]
async fn a_letter_is_superseded_by_what_came_since() {
    let event = event("refused once");
    let world = with_a_letter(&event).await;
    let superseded = async || {
        let letters = [(event.clone(), vec![Target::Qdrant]), (event.clone(), vec![Target::Qdrant])];
        dead::superseded(&*world.ports().records, &letters).await.unwrap()
    };
    assert_eq!(superseded().await, [false, false]);
    let mut newer = event.clone();
    newer.event_id = uuid::Uuid::max();
    newer.timestamp = chunk_sync_model::Time::from_micros(event.time().micros() + 1_000);
    let service = world.service().await;
    world.publisher().publish(vec![newer]).await.unwrap();
    service.until_idle().await.unwrap();
    assert_eq!(superseded().await, [true, true]);
    // The service drops it.
    let gone = async {
        while !world.letters().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the letter was not dropped within 30 s");
    service.stop().await.unwrap();
}
