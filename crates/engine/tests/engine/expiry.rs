//! Text that was deleted or replaced leaves the records after the retention time: of idle chunks, and of those that are
//! merged.

use std::time::Duration;

use chunk_sync_engine::ports::SystemOfRecord;
use chunk_sync_engine::{Service, Settings};
use chunk_sync_model::{Body, Event, EventType, Origin};
use jiff::Timestamp;
use uuid::Uuid;

use crate::giving_up::world::{World, event, until};

const SECRET: &str = "SECRET-4711";

/// A view of the chunk of that name, made now.
fn view(name: &str, origin: Origin, content: &str) -> Event {
    let Body::Chunk(mut chunk) = event(name).body else { panic!("an event with a chunk") };
    (chunk.system_origin, chunk.content) = (origin, content.to_owned());
    let timestamp = Timestamp::now().into();
    Event { event_id: Uuid::new_v4(), timestamp, ..Event::of_chunk(*chunk) }
}

fn deleted(name: &str) -> Event {
    let view = view(name, Origin::Claude, "unused content");
    Event { kind: EventType::Delete, body: Body::Id(view.chunk_id()), ..view }
}

async fn publish(world: &World, service: &Service, events: Vec<Event>) {
    for event in events {
        world.publisher().publish(vec![event]).await.unwrap();
    }
    service.until_idle().await.unwrap();
}

/// Whether the record of the chunk of that name contains the secret.
async fn remembers(world: &World, name: &str) -> bool {
    let current = world.records.current(&[event(name).chunk_id()]).await.unwrap();
    format!("{:?}", current[0].record).contains(SECRET)
}

/// A service whose records keep nothing that is superseded.
async fn forgetful(world: &World) -> Service {
    let settings = Settings { keep_records: Duration::ZERO, ..world.settings() };
    Service::start(world.ports(), settings).await.unwrap()
}

/// Content by one writer that another has replaced.
fn replaced(name: &str) -> Vec<Event> {
    vec![view(name, Origin::Claude, SECRET), view(name, Origin::Cognee, "the content that replaced it")]
}

#[tokio::test]
async fn text_leaves_the_records_of_idle_chunks_unless_their_rows_are_hidden() {
    let world = World::new();
    let service = world.service().await;
    let gone = vec![view("gone", Origin::Claude, SECRET), view("gone", Origin::Cognee, SECRET), deleted("gone")];
    publish(&world, &service, [gone, replaced("hidden"), replaced("idle")].concat()).await;
    service.stop().await.unwrap();
    for name in ["gone", "hidden", "idle"] {
        assert!(remembers(&world, name).await, "{name}: until it expires, a later event may need it");
    }
    world.records.hide([event("hidden").chunk_id()]);
    let service = forgetful(&world).await;
    until("idle records expire", async || !remembers(&world, "gone").await && !remembers(&world, "idle").await).await;
    assert!(remembers(&world, "hidden").await, "the row may show again, and is compared with the record then");
    world.records.hide([]);
    until("the record expires once its row shows", async || !remembers(&world, "hidden").await).await;
    // A retry queue of a writer that knew the chunk does not bring it back.
    publish(&world, &service, vec![view("gone", Origin::Cognee, SECRET)]).await;
    assert!(!world.holds(&event("gone")).await && world.holds(&event("idle")).await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_merge_expires_the_record_that_it_writes() {
    let world = World::new();
    let service = world.service().await;
    publish(&world, &service, [replaced("merged"), replaced("other")].concat()).await;
    service.stop().await.unwrap();
    let service = forgetful(&world).await;
    let mut later = view("merged", Origin::Cognee, "the content that replaced it");
    if let Body::Chunk(chunk) = &mut later.body {
        chunk.metadata.extra.insert("team".into(), "blue".into());
    }
    publish(&world, &service, vec![later]).await;
    // Idle records are examined 5 s after the start.
    assert!(remembers(&world, "other").await, "no idle record has expired yet");
    assert!(!remembers(&world, "merged").await);
    service.stop().await.unwrap();
}
