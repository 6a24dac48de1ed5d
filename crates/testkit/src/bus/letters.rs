//! Contract of the dead letters of a bus.

use chunk_sync_engine::ports::{DeadLetter, Delivery, FaultClass};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Target, Time};

use super::{BusFixture, events, nothing_left, read};

pub(super) fn letter(delivery: &Delivery) -> DeadLetter {
    DeadLetter {
        id: Some(delivery.id),
        fields: delivery.fields.clone(),
        at: Time::from_micros(1_700_000_000_000_001),
        class: FaultClass::Rejected,
        error: "it cannot be".into(),
        field: Some("chunk.id".into()),
        attempts: delivery.attempt,
        missing: vec![Target::Qdrant, Target::Neo4j],
    }
}

pub async fn a_dead_letter_keeps_its_fields_and_states_the_reason<F: BusFixture>() {
    let mut fixture = F::fresh().await;
    let bus = fixture.port();
    let raw: Fields = vec![(b"event_id".to_vec(), b"x".to_vec()), (b"chunk".to_vec(), vec![0xff, 0x00, 0x80])];
    fixture.add(raw.clone()).await;
    let delivery = read(&*bus, 1).await.remove(0);
    bus.dead_letter(&[letter(&delivery)]).await.unwrap();
    // As after a crash between the letter and the answer.
    bus.dead_letter(&[letter(&delivery)]).await.unwrap();
    nothing_left(&*bus).await;
    drop(bus);
    fixture.reopen().await;
    nothing_left(&*fixture.port()).await;
    let letters = fixture.port().dead(None, 10).await.unwrap();
    assert!(!letters.is_empty());
    let field = |name: &str| {
        let found = letters[0].fields.iter().find(|(field, _)| field == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    assert!(raw.iter().all(|pair| letters[0].fields.contains(pair)), "{:?}", letters[0]);
    assert_eq!(field("dead_at").as_deref(), Some("2023-11-14T22:13:20.000001Z"));
    assert_eq!(field("stream_id"), Some(delivery.id.to_string()));
    assert_eq!(field("error_type").as_deref(), Some("rejected"));
    assert_eq!(field("error").as_deref(), Some("it cannot be"));
    assert_eq!(field("field").as_deref(), Some("chunk.id"));
    assert_eq!(field("attempts").as_deref(), Some("1"));
    assert_eq!(field("missing").as_deref(), Some(r#"["qdrant","neo4j"]"#));
    assert_eq!(field("raw_b64").as_deref(), Some(r#"{"chunk":"/wCA"}"#));
}

pub async fn letters_are_listed_and_dropped<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(5)).await.unwrap();
    let deliveries = read(&*bus, 5).await;
    bus.dead_letter(&deliveries.iter().map(letter).collect::<Vec<_>>()).await.unwrap();
    let first = bus.dead(None, 2).await.unwrap();
    let rest = bus.dead(Some(first[1].id), 10).await.unwrap();
    let all: Vec<_> = first.iter().chain(&rest).map(|letter| letter.id).collect();
    assert!(all.len() == 5 && all.is_sorted_by(|a, b| a < b), "{all:?}");
    assert_eq!(bus.depth().await.unwrap().dead, 5);
    let bytes = bus.dead_bytes().await.unwrap().unwrap();
    assert!((1_000..100_000).contains(&bytes), "{bytes} bytes of five letters");
    assert!(bus.drop_dead(all[3]).await.unwrap());
    assert!(!bus.drop_dead(all[3]).await.unwrap());
    assert_eq!(bus.dead(Some(all[2]), 10).await.unwrap()[0].id, all[4]);
    assert_eq!(bus.depth().await.unwrap().dead, 4);
}

pub async fn a_letter_without_an_entry_is_only_added<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(1)).await.unwrap();
    let delivery = read(&*bus, 1).await.remove(0);
    bus.dead_letter(&[DeadLetter { id: None, ..letter(&delivery) }]).await.unwrap();
    let depth = bus.depth().await.unwrap();
    assert_eq!((depth.pending, depth.dead), (1, 1), "the entry stays");
    let letters = bus.dead(None, 10).await.unwrap();
    assert_eq!(letters[0].text("stream_id").as_deref(), Some(""));
}
