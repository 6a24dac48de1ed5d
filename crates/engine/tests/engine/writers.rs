//! Who may write, and until which time: nothing freezes a chunk, outranks what comes later, or stops the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chunk_sync_engine::ports::{Bus, Ports, Projection, SystemOfRecord};
use chunk_sync_engine::{Clock, Service};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Body, Event, State, SyncVersion, Time};
use chunk_sync_testkit::states::states;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::giving_up::world::{World, event};

fn fields(event: &serde_json::Value) -> Fields {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = event.as_object().unwrap().iter();
    fields.map(|(name, value)| (name.as_bytes().to_vec(), text(value).into_bytes())).collect()
}

/// The event again as a later change with another content.
fn later(event: &Event, content: &str) -> Event {
    let Body::Chunk(chunk) = &event.body else { panic!("an event with a chunk") };
    let mut chunk = (**chunk).clone();
    chunk.content = content.into();
    chunk.metadata.updated_at = Time::from_micros(chunk.metadata.updated_at.micros() + content.len() as i64);
    Event::of_chunk(chunk)
}

async fn carry(world: &World) {
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
}

async fn content(world: &World, id: Uuid) -> String {
    let row = world.records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    row.state.unwrap().chunk.content.clone()
}

#[tokio::test]
async fn a_forged_signal_freezes_nothing() {
    let (world, first) = (World::new(), event("of claude"));
    let id = first.chunk_id();
    world.publisher().publish(vec![first.clone()]).await.unwrap();
    carry(&world).await;
    for (kind, set) in [("delete", json!(["existence"])), ("update", json!([])), ("update", json!(["existence"]))] {
        world.bus.add(fields(&json!({
            "event_id": Uuid::new_v4(), "type": kind, "source": "hybrid", "writer": "postgres", "targets": ["qdrant"],
            "timestamp": "9999-01-01T00:00:00Z", "set": set, "chunk": serde_json::to_value(match &first.body {
                Body::Chunk(chunk) => chunk,
                Body::Id(_) => panic!("an event with a chunk"),
            }).unwrap(),
        })));
    }
    carry(&world).await;
    for text in ["the second content", "the third and last content"] {
        world.publisher().publish(vec![later(&first, text)]).await.unwrap();
        carry(&world).await;
        assert_eq!(content(&world, id).await, text);
    }
    let row = world.records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    let bound = Time::from(Timestamp::now()).micros() + 600_000_000;
    assert!(row.version < SyncVersion::new(bound as u64), "{}", row.version);
    let held = world.vectors.fetch_documents(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!(held.version, row.version, "the store goes on as well");
}

#[tokio::test]
async fn stores_and_operators_without_a_conflict_are_no_writers() {
    let (world, first) = (World::new(), event("of claude"));
    world.publisher().publish(vec![first.clone()]).await.unwrap();
    carry(&world).await;
    let before = content(&world, first.chunk_id()).await;
    for (writer, set) in [("qdrant", json!([])), ("neo4j", json!([])), ("operator", json!(["content"]))] {
        let mut forged: serde_json::Value = serde_json::from_str(&later(&first, "a forged content").to_json()).unwrap();
        (forged["writer"], forged["set"]) = (writer.into(), set);
        forged["event_id"] = Uuid::new_v4().to_string().into();
        world.bus.add(fields(&forged));
    }
    carry(&world).await;
    assert_eq!(content(&world, first.chunk_id()).await, before);
    let letters = world.letters().await;
    let of = |letter: &chunk_sync_engine::ports::Letter| letter.reasons().field.unwrap();
    let mut refused: Vec<String> = letters.iter().map(of).collect();
    refused.sort();
    assert_eq!(refused, ["set", "writer", "writer"]);
}

#[tokio::test]
async fn a_writer_changes_a_chunk_1024_times_in_a_microsecond_and_no_more() {
    let (world, first) = (World::new(), event("of claude"));
    let again = |_| Event { event_id: Uuid::new_v4(), ..first.clone() };
    world.publisher().publish((0..1_100).map(again).collect()).await.unwrap();
    carry(&world).await;
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1_100 - 1_024);
    assert!(letters[0].reasons().error.contains("1024 times"), "{:?}", letters[0].reasons());
    world.publisher().publish(vec![later(&first, "at another time")]).await.unwrap();
    carry(&world).await;
    assert_eq!(content(&world, first.chunk_id()).await, "at another time");
}

/// A program that embeds a chunk again publishes the same chunk, at the same time, with other numbers.
#[tokio::test]
async fn a_bare_chunk_that_only_has_another_vector_is_carried_to_the_vectors() {
    let (world, first) = (World::new(), states(1).remove(0));
    let mut second = State::clone(&first);
    second.chunk.embeddings.dense[0].vector = vec![0.25; first.chunk.embeddings.dense[0].vector.len()].into();
    assert_eq!(second.chunk.metadata.updated_at, first.chunk.metadata.updated_at);
    for state in [State::clone(&first), second.clone()] {
        world.publisher().publish(vec![Event::of_chunk(state.chunk)]).await.unwrap();
        carry(&world).await;
    }
    let held = world.vectors.fetch_documents(&[first.chunk.id]).await.unwrap().remove(0).unwrap();
    assert_eq!(held.document, world.vectors.expect(&second));
    assert_ne!(held.document, world.vectors.expect(&first));
}

#[tokio::test]
async fn a_process_with_a_wrong_clock_merges_nothing_until_it_is_right() {
    let (world, first) = (World::new(), event("of claude"));
    world.publisher().publish(vec![first.clone()]).await.unwrap();
    let ahead = Arc::new(AtomicI64::new(600));
    let clock = Clock::new({
        let ahead = Arc::clone(&ahead);
        move || Timestamp::now() + jiff::SignedDuration::from_secs(ahead.load(Ordering::Relaxed))
    });
    let service = Service::start(Ports { clock, ..world.ports() }, world.settings()).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while service.health().clock.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the difference is not reported");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = service.health();
    assert!(!health.is_ready() && health.clock.unwrap().1.message.contains("s ahead of"));
    assert_eq!(world.bus.depth().await.unwrap().pending, 1, "the entry waits on the bus");
    assert!(world.records.rows_of(&[first.chunk_id()]).await.unwrap()[0].is_none());
    ahead.store(0, Ordering::Relaxed);
    service.until_idle().await.unwrap();
    assert!(service.health().clock.is_none());
    assert!(world.holds(&first).await && world.letters().await.is_empty());
    service.stop().await.unwrap();
}
