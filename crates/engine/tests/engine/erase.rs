//! What is held of a deleted chunk's text is erased from every place, and nothing is erased that is still needed.

use chunk_sync_engine::erase::{Unerasable, erase, is_of};
use chunk_sync_engine::ports::{
    ConflictFilter, ConflictLog, DeadLetter, DeadLetters, Erasing, Erasures, FaultClass, READ_BYTES, SystemOfRecord,
};
use chunk_sync_model::{Body, Event, EventType, Origin, Time};
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;

use crate::giving_up::world::{World, event};

const SECRET: &str = "SECRET-4711";

fn by(origin: Origin, text: &str) -> Event {
    let Body::Chunk(chunk) = event("secret").body else { panic!("an event with a chunk") };
    let mut chunk = *chunk;
    (chunk.system_origin, chunk.content) = (origin, format!("{text} {SECRET}"));
    Event::of_chunk(chunk)
}

fn deleted(origin: Origin, id: Uuid) -> Event {
    let at: Time = Timestamp::now().into();
    let (kind, body) = (EventType::Delete, Body::Id(id));
    Event { event_id: Uuid::new_v4(), kind, body, timestamp: at, ..by(origin, "") }
}

/// Every file of the log.
fn log(world: &World) -> String {
    let files = std::fs::read_dir(world.settings().wal.dir).unwrap();
    files.map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned()).collect()
}

fn letter(of: &Event) -> DeadLetter {
    let fields = of.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    DeadLetter {
        id: None,
        fields: fields.collect(),
        at: Timestamp::now().into(),
        class: FaultClass::Rejected,
        error: "refused".into(),
        field: None,
        attempts: 1,
        missing: Vec::new(),
    }
}

/// Of no known chunk, and longer than a page of letters.
fn long_letter() -> DeadLetter {
    DeadLetter { fields: vec![(b"chunk".to_vec(), vec![b'x'; READ_BYTES + 1])], ..letter(&event("other")) }
}

#[tokio::test]
async fn a_deleted_text_is_erased_from_every_place_beside_a_running_service() {
    let world = World::new();
    let (one, two) = (by(Origin::Claude, "one"), by(Origin::Cognee, "two"));
    let id = one.chunk_id();
    world.publisher().publish(vec![one.clone(), two]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    let ports = world.ports();
    assert!(matches!(erase(&ports, id, Erasing::Remove).await, Err(Unerasable::Lives(_))), "it lives");
    assert!(matches!(erase(&ports, Uuid::nil(), Erasing::Remove).await, Err(Unerasable::Unknown(_))));
    world.bus.dead_letter(&[letter(&one)]).await.unwrap();
    world.publisher().publish(vec![deleted(Origin::Claude, id)]).await.unwrap();
    service.until_idle().await.unwrap();
    let record = || async { format!("{:?}", world.records.current(&[id]).await.unwrap()) };
    let conflicts = || async { world.records.conflicts(&ConflictFilter::default(), 10).await.unwrap().entries.len() };
    assert!(record().await.contains(SECRET) && conflicts().await > 0 && log(&world).contains(SECRET));
    let counted = erase(&ports, id, Erasing::Count).await.unwrap();
    assert!(record().await.contains(SECRET) && conflicts().await > 0, "a dry run removes nothing");
    let receipt = erase(&ports, id, Erasing::Remove).await.unwrap();
    assert_eq!(receipt, counted);
    assert!(receipt.iter().filter(|erased| erased.removed > 0).count() >= 2, "{receipt:?}");
    world.records.request_erasure(&[id]).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !world.records.requested_erasures(1).await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the service does not erase its log");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!record().await.contains(SECRET), "the record");
    assert_eq!(conflicts().await, 0);
    assert!(world.letters().await.is_empty());
    assert!(!log(&world).contains(SECRET) && log(&world).contains("erased"), "the log");
    // The id stays: what a retry queue brings does not revive the chunk.
    let known = Event { kind: EventType::Update, timestamp: Timestamp::now().into(), ..by(Origin::Cognee, "again") };
    world.publisher().publish(vec![Event { event_id: Uuid::new_v4(), ..known }]).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    assert!(!world.holds(&one).await);
}

/// A chunk that was created and deleted, by its creation. The service has stopped: nothing else drops a letter.
async fn deleted_and_stopped() -> (World, Event) {
    let world = World::new();
    let one = by(Origin::Claude, "one");
    world.publisher().publish(vec![one.clone(), deleted(Origin::Claude, one.chunk_id())]).await.unwrap();
    let service = world.service().await;
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
    (world, one)
}

#[tokio::test]
async fn nothing_is_erased_while_an_entry_is_unfinished() {
    let (world, one) = deleted_and_stopped().await;
    world.publisher().publish(vec![by(Origin::Cognee, "a late view")]).await.unwrap();
    let refused = erase(&world.ports(), one.chunk_id(), Erasing::Remove).await;
    assert!(matches!(refused, Err(Unerasable::Unfinished(_, 1))), "{refused:?}");
    assert!(is_of(&one.to_json(), &[one.chunk_id()]));
}

#[tokio::test]
async fn a_dead_letter_behind_a_long_one_is_erased() {
    let (world, one) = deleted_and_stopped().await;
    world.bus.dead_letter(&[long_letter(), letter(&one)]).await.unwrap();
    let receipt = erase(&world.ports(), one.chunk_id(), Erasing::Remove).await.unwrap();
    assert_eq!(receipt.iter().find(|erased| erased.place == "dead letters").map(|erased| erased.removed), Some(1));
    assert_eq!(world.letters().await.len(), 1, "that of no known chunk stays");
}
