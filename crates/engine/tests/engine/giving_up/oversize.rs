//! An event that is too long for the log is refused alone.

use chunk_sync_engine::Service;
use chunk_sync_model::{Body, Event};
use serde_json::json;

use super::world::{World, event, events};

fn long_event(bytes: usize) -> Event {
    let mut event = event("long");
    if let Body::Chunk(chunk) = &mut event.body {
        chunk.metadata.extra.insert("x".to_owned(), json!("x".repeat(bytes)));
    }
    event
}

#[tokio::test]
async fn an_event_too_long_for_the_log_is_dead_lettered_alone() {
    let world = World::new();
    let mut settings = world.settings();
    settings.wal.max_bytes = 1 << 20;
    let (sound, long) = (events("sound", 20), long_event(600_000));
    world.publisher().publish(sound[..10].to_vec()).await.unwrap();
    world.publisher().publish(vec![long.clone()]).await.unwrap();
    world.publisher().publish(sound[10..].to_vec()).await.unwrap();
    let service = Service::start(world.ports(), settings).await.unwrap();
    service.until_idle().await.unwrap();
    assert!(service.health().is_ready());
    let letters = world.letters().await;
    let error = letters[0].text("error").unwrap();
    assert!(letters.len() == 1 && error.contains("the write-ahead log accepts"), "{error}");
    for event in &sound {
        assert!(world.holds(event).await);
    }
    assert!(!world.holds(&long).await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_above_the_bound_of_the_log_is_carried_in_parts() {
    let world = World::new();
    let mut settings = world.settings();
    settings.wal.max_bytes = 16 << 20;
    let mut many = events("heavy", 40);
    for event in &mut many {
        if let Body::Chunk(chunk) = &mut event.body {
            chunk.metadata.extra.insert("x".to_owned(), json!("x".repeat(1_000_000)));
        }
    }
    world.publisher().publish(many.clone()).await.unwrap();
    let service = Service::start(world.ports(), settings).await.unwrap();
    service.until_idle().await.unwrap();
    assert!(world.letters().await.is_empty() && world.holds(&many[39]).await);
    service.stop().await.unwrap();
}
