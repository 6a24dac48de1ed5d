//! A row that is deleted and inserted again by a later transaction is another row, also if no merge saw it absent.

use std::sync::Arc;

use chunk_sync_engine::ports::{CurrentState, SystemOfRecord};
use chunk_sync_model::{Body, Event, Limits, Part, State, Time, Writer};
use jiff::{Timestamp, ToSpan};
use serde_json::json;
use uuid::Uuid;

use crate::giving_up::world::{World, event};

/// A captured change of the row: the merge reads the row itself.
fn signal(id: Uuid, kind: &str, at: Timestamp) -> Event {
    let event = json!({
        "event_id": Uuid::new_v4(), "type": kind, "source": "hybrid", "writer": "postgres", "targets": ["qdrant"],
        "chunk": {"id": id}, "timestamp": at.to_string(),
    });
    Event::from_json(&event.to_string(), &Limits::default()).unwrap()
}

async fn current(world: &World, id: Uuid) -> CurrentState {
    world.records.current(&[id]).await.unwrap().remove(0)
}

/// When the chunk was deleted in the system of record, as far as the record states it.
async fn deleted_at(world: &World, id: Uuid) -> Option<Time> {
    let record = current(world, id).await.record.unwrap();
    let settings = record.writers.get(&Writer::Postgres)?.parts.get(&Part::Existence)?;
    settings.iter().filter(|setting| setting.hash.is_none()).map(|setting| setting.time).max()
}

#[tokio::test]
async fn a_row_that_was_deleted_and_inserted_again_has_only_what_it_was_inserted_with() {
    let world = World::new();
    let Body::Chunk(chunk) = event("inserted again").body else { panic!("an event with a chunk") };
    let (mut before, id, now) = (*chunk, Uuid::new_v4(), Timestamp::now());
    before.id = id;
    before.metadata.updated_at = now.checked_sub(1.minute()).unwrap().into();
    before.metadata.created_at = before.metadata.updated_at;
    before.metadata.extra.insert("old".into(), json!("of the deleted row"));
    world.publisher().publish(vec![Event::of_chunk(before.clone())]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();

    let mut after = before.clone();
    after.metadata.extra = [("new".to_owned(), json!(1))].into_iter().collect();
    after.metadata.updated_at = now.into();
    world.records.write_row(id, Some(Arc::new(State { chunk: after.clone(), embedding_stale: false })));
    let (deletion, insertion) = (signal(id, "delete", now), signal(id, "create", Timestamp::now()));
    world.publisher().publish(vec![deletion.clone(), insertion]).await.unwrap();
    service.until_idle().await.unwrap();
    let keys: Vec<String> = current(&world, id).await.state.unwrap().chunk.metadata.extra.keys().cloned().collect();
    assert!(!keys.contains(&"old".to_owned()) && keys.contains(&"new".to_owned()), "{keys:?}");

    // The deletion is delivered once more, after another change of the row: that one is an update.
    let first = deleted_at(&world, id).await;
    assert!(first.is_some());
    after.metadata.extra.insert("newer".into(), json!(2));
    world.records.write_row(id, Some(Arc::new(State { chunk: after, embedding_stale: false })));
    world.publisher().publish(vec![deletion]).await.unwrap();
    service.until_idle().await.unwrap();
    assert_eq!(deleted_at(&world, id).await, first);
    assert!(current(&world, id).await.state.unwrap().chunk.metadata.extra.contains_key("newer"));
    service.stop().await.unwrap();
}
