//! What proves nothing about a refusal: events of another kind, and events for which there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::{Service, Settings};
use chunk_sync_model::{Body, Event, Limits, State};
use serde_json::json;
use uuid::Uuid;

use super::world::{World, event, events, until};

/// A captured change of the chunk, or a delete of it by a publisher.
fn without_text(id: Uuid, kind: &str, writer: &str) -> Event {
    let event = json!({
        "event_id": Uuid::new_v4(), "type": kind, "source": "claude", "writer": writer, "targets": ["qdrant"],
        "chunk": {"id": id}, "timestamp": jiff::Timestamp::now().to_string(),
    });
    Event::from_json(&event.to_string(), &Limits::default()).unwrap()
}

/// The application writes a row.
fn captured(world: &World, number: usize) -> Event {
    let Body::Chunk(chunk) = event(&format!("captured {number}")).body else { panic!("an event with a chunk") };
    let id = chunk.id;
    world.records.write_row(id, Some(Arc::new(State { chunk: *chunk, embedding_stale: false })));
    without_text(id, "create", "postgres")
}

/// A service that has carried captured changes and deletes.
async fn has_carried(world: &World, settings: Settings) -> Service {
    let service = Service::start(world.ports(), settings).await.unwrap();
    let captured: Vec<Event> = (0..60).map(|number| captured(world, number)).collect();
    let deletes = (0..60).map(|_| without_text(Uuid::new_v4(), "delete", "claude"));
    world.publisher().publish(captured.iter().cloned().chain(deletes).collect()).await.unwrap();
    service.until_idle().await.unwrap();
    assert!(world.holds(&captured[59]).await, "a row is a fact, however short");
    service
}

/// The service holds every published chunk until it is restarted.
async fn holds(world: &World, service: Service, corrected: impl FnOnce()) {
    let published = events("published", 60);
    world.publisher().publish(published.clone()).await.unwrap();
    until("the service holds what is refused", async || service.health().held.is_some()).await;
    // Longer than a refusal waits for evidence.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.letters().await.len(), 0);
    assert!(!service.health().is_ready());
    service.stop().await.unwrap();
    corrected();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    for event in &published {
        assert!(world.holds(event).await);
    }
    assert_eq!(world.letters().await.len(), 0);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn captured_changes_and_deletes_do_not_prove_that_a_limit_is_right() {
    let world = World::new();
    let limits = Limits { content_min_chars: 10_000, ..Limits::default() };
    let wrong = Settings { limits, ..world.settings() };
    let service = has_carried(&world, wrong).await;
    holds(&world, service, || ()).await;
}

#[tokio::test]
async fn captured_changes_and_deletes_do_not_prove_that_the_table_takes_published_chunks() {
    let world = World::new();
    let service = has_carried(&world, world.settings()).await;
    world.records.refuse(events("published", 60).iter().map(Event::chunk_id));
    holds(&world, service, || world.records.refuse([])).await;
}

#[tokio::test]
async fn captured_changes_and_deletes_do_not_prove_that_a_store_takes_published_chunks() {
    let world = World::new();
    let service = has_carried(&world, world.settings()).await;
    let refused = &world.vectors.faults.refused;
    refused.lock().unwrap().extend(events("published", 60).iter().map(Event::chunk_id));
    holds(&world, service, || refused.lock().unwrap().clear()).await;
}

#[tokio::test]
async fn chunks_that_are_published_again_unchanged_prove_nothing() {
    let world = World::new();
    let (unchanged, service) = (events("unchanged", 60), world.service().await);
    world.publisher().publish(unchanged.clone()).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    let service = world.service().await;
    world.publisher().publish(unchanged).await.unwrap();
    service.until_idle().await.unwrap();
    world.records.refuse(events("published", 60).iter().map(Event::chunk_id));
    holds(&world, service, || world.records.refuse([])).await;
}

#[tokio::test]
async fn refused_rows_among_many_others_are_dead_letters_and_hold_nothing() {
    let world = World::new();
    let service = world.service().await;
    let captured: Vec<Event> = (0..240).map(|number| captured(&world, number)).collect();
    let poison: Vec<Uuid> = captured.iter().step_by(4).map(Event::chunk_id).collect();
    world.vectors.faults.refused.lock().unwrap().extend(poison.iter().copied());
    for captured in captured.chunks(40) {
        world.publisher().publish(captured.to_vec()).await.unwrap();
        service.until_idle().await.unwrap();
    }
    assert_eq!(world.letters().await.len(), poison.len());
    assert!(service.health().held.is_none() && service.health().is_ready());
    service.stop().await.unwrap();
}
