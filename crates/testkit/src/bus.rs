//! Contract of every bus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Bus, Delivery, EntryId, Erasing, FaultClass, Handover};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Limits};

use crate::Fixture;
use crate::states::{bare, chunk, states};

mod letters;
mod readers;

pub use letters::*;
pub use readers::*;

type Port = dyn Bus;

/// Long enough for everything that must happen.
const LONG: Duration = Duration::from_secs(20);

/// A read that finds nothing ends after this time.
const SHORT: Duration = Duration::from_millis(50);

/// What a bus offers to its contract tests beside its port. After [`Fixture::fresh`] the port reads as after an orderly
/// handover; after [`Fixture::reopen`] it reads as after a process that stopped without notice.
#[async_trait]
pub trait BusFixture: Fixture<Port = Port> {
    /// A fresh, empty bus that holds at most `bound` unfinished entries.
    async fn narrow(bound: u64) -> Self;

    /// Adds an entry with any fields, as a foreign client would.
    async fn add(&self, fields: Fields) -> EntryId;
}

fn events(count: usize) -> Vec<Event> {
    states(count).iter().map(|state| Event::of_chunk(state.chunk.clone())).collect()
}

fn event_of(delivery: &Delivery) -> Event {
    Event::from_fields(&delivery.fields, &Limits::default()).unwrap()
}

fn ids(deliveries: &[Delivery]) -> Vec<EntryId> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

/// Reads until `count` entries have been delivered.
async fn read(bus: &Port, count: usize) -> Vec<Delivery> {
    let (mut all, began) = (Vec::new(), Instant::now());
    while all.len() < count {
        assert!(began.elapsed() < LONG, "only {} of {count} entries were delivered", all.len());
        all.extend(bus.read(count - all.len(), Duration::from_secs(1)).await.unwrap());
    }
    all
}

async fn nothing_left(bus: &Port) {
    let left = bus.read(10, SHORT).await.unwrap();
    assert!(left.is_empty(), "{:?} were delivered again", ids(&left));
}

pub async fn what_is_published_is_read_in_order<F: BusFixture>() {
    let fixture = F::fresh().await;
    let (bus, events) = (fixture.port(), events(700));
    assert!(bus.publish(&[]).await.unwrap().is_empty());
    let mut published = bus.publish(&events[..600]).await.unwrap();
    published.extend(bus.publish(&events[600..]).await.unwrap());
    assert!(published.is_sorted_by(|a, b| a < b), "ids ascend");
    let deliveries = read(&*bus, 700).await;
    assert_eq!(ids(&deliveries), published);
    assert!(deliveries.iter().map(event_of).eq(events));
    assert!(deliveries.iter().all(|delivery| delivery.attempt == 1));
}

pub async fn what_is_acknowledged_is_not_handed_out_again<F: BusFixture>() {
    let mut fixture = F::fresh().await;
    fixture.port().publish(&events(10)).await.unwrap();
    let deliveries = read(&*fixture.port(), 10).await;
    fixture.port().acknowledge(&ids(&deliveries)).await.unwrap();
    // An acknowledgement may be repeated.
    fixture.port().acknowledge(&ids(&deliveries[..2])).await.unwrap();
    nothing_left(&*fixture.port()).await;
    fixture.reopen().await;
    nothing_left(&*fixture.port()).await;
}

pub async fn what_is_unfinished_comes_again_first_and_is_counted<F: BusFixture>() {
    let mut fixture = F::fresh().await;
    let events = events(6);
    let published = fixture.port().publish(&events[..4]).await.unwrap();
    let deliveries = read(&*fixture.port(), 4).await;
    fixture.port().acknowledge(&[deliveries[1].id]).await.unwrap();
    let later = fixture.port().publish(&events[4..]).await.unwrap();
    for attempt in 2..4 {
        fixture.reopen().await;
        let again = read(&*fixture.port(), 3).await;
        assert_eq!(ids(&again), [published[0], published[2], published[3]]);
        assert!(again.iter().all(|delivery| delivery.attempt == attempt), "{again:?}");
    }
    assert_eq!(ids(&read(&*fixture.port(), 2).await), later);
}

pub async fn an_orderly_handover_is_not_counted<F: BusFixture>() {
    let fixture = F::fresh().await;
    let (bus, published) = (fixture.port(), fixture.port().publish(&events(3)).await.unwrap());
    let deliveries = read(&*bus, 2).await;
    assert!(deliveries.iter().all(|delivery| delivery.attempt == 1 && !delivery.again));
    bus.acknowledge(&published[..1]).await.unwrap();
    for handover in [Handover::Orderly, Handover::Orderly, Handover::Silent] {
        bus.begin(handover).await.unwrap();
        let again = read(&*bus, 2).await;
        assert_eq!(ids(&again), published[1..]);
        let attempt = 1 + u32::from(handover == Handover::Silent);
        assert_eq!((again[0].attempt, again[0].again), (attempt, true), "{handover:?}");
    }
    assert_eq!(bus.depth().await.unwrap().oldest, Some(published[1]));
}

pub async fn a_count_is_set_and_lifts_a_suspicion<F: BusFixture>() {
    let mut fixture = F::fresh().await;
    let published = fixture.port().publish(&events(3)).await.unwrap();
    read(&*fixture.port(), 3).await;
    fixture.port().recount(published[1], 7).await.unwrap();
    fixture.reopen().await;
    let again = read(&*fixture.port(), 2).await;
    assert_eq!((ids(&again), again[1].attempt), (published[..2].to_vec(), 8));
    fixture.port().recount(published[1], 1).await.unwrap();
    assert_eq!(ids(&read(&*fixture.port(), 1).await), published[2..]);
    fixture.reopen().await;
    let again = read(&*fixture.port(), 3).await;
    assert_eq!((ids(&again), again[1].attempt), (published.clone(), 2));
    fixture.port().acknowledge(&published).await.unwrap();
    fixture.port().recount(published[1], 1).await.unwrap();
    fixture.reopen().await;
    nothing_left(&*fixture.port()).await;
}

pub async fn a_read_hands_out_no_more_than_asked<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(5)).await.unwrap();
    assert_eq!(bus.read(2, LONG).await.unwrap().len(), 2);
    assert_eq!(bus.read(2, LONG).await.unwrap().len(), 2);
    assert_eq!(bus.read(2, LONG).await.unwrap().len(), 1);
}

pub async fn malformed_entries_pass_unaltered_and_block_no_other<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    let raw: Vec<Fields> = vec![
        vec![(b"nonsense".to_vec(), b"1".to_vec())],
        vec![(vec![0xc3, 0x28], vec![]), (b"chunk".to_vec(), vec![0xff])],
    ];
    for fields in &raw {
        fixture.add(fields.clone()).await;
    }
    bus.publish(&events(1)).await.unwrap();
    let deliveries = read(&*bus, 3).await;
    assert_eq!([&deliveries[0].fields, &deliveries[1].fields], [&raw[0], &raw[1]]);
    event_of(&deliveries[2]);
}

pub async fn the_depth_separates_unread_from_pending<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    let empty = bus.depth().await.unwrap();
    assert_eq!((empty.unread, empty.pending, empty.dead, empty.oldest), (0, 0, 0, None));
    let published = bus.publish(&events(9)).await.unwrap();
    let unread = bus.depth().await.unwrap();
    assert_eq!((unread.unread, unread.pending, unread.oldest), (9, 0, Some(published[0])));
    let deliveries = read(&*bus, 4).await;
    bus.acknowledge(&ids(&deliveries[..1])).await.unwrap();
    let some = bus.depth().await.unwrap();
    assert_eq!((some.unread, some.pending, some.oldest), (5, 3, Some(published[1])));
}

pub async fn trimming_leaves_what_is_unfinished<F: BusFixture>() {
    let mut fixture = F::fresh().await;
    let bus = fixture.port();
    let published = bus.publish(&events(50)).await.unwrap();
    let deliveries = read(&*bus, 30).await;
    bus.acknowledge(&ids(&deliveries[..20])).await.unwrap();
    bus.trim().await.unwrap();
    bus.trim().await.unwrap();
    let depth = bus.depth().await.unwrap();
    assert_eq!((depth.unread, depth.pending), (20, 10));
    drop(bus);
    fixture.reopen().await;
    assert_eq!(ids(&read(&*fixture.port(), 30).await), published[20..]);
}

pub async fn a_full_bus_is_busy_until_there_is_room<F: BusFixture>() {
    let fixture = F::narrow(10).await;
    let (bus, events) = (fixture.port(), events(21));
    bus.publish(&events[..10]).await.unwrap();
    let busy = bus.publish(&events[10..20]).await.unwrap_err();
    assert_eq!(busy.class, FaultClass::Busy, "{busy}");
    let publisher = tokio::spawn({
        let (bus, event) = (Arc::clone(&bus), events[20].clone());
        async move { bus.publish(&[event]).await }
    });
    let deliveries = read(&*bus, 10).await;
    bus.acknowledge(&ids(&deliveries)).await.unwrap();
    publisher.await.unwrap().expect("the publisher continues as soon as there is room");
    assert_eq!(event_of(&read(&*bus, 1).await[0]), events[20]);
}

pub async fn preparing_again_loses_nothing<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    bus.publish(&events(3)).await.unwrap();
    let deliveries = read(&*bus, 1).await;
    bus.prepare().await.unwrap();
    let depth = bus.depth().await.unwrap();
    assert_eq!((depth.unread, depth.pending, depth.oldest), (2, 1, Some(deliveries[0].id)));
    assert_eq!(read(&*bus, 2).await.len(), 2);
}

pub async fn publishers_at_once_lose_nothing<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    let publishers = (0..4).map(|publisher| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            for batch in 0..10 {
                let event = |i: usize| Event::of_chunk(chunk(&bare(&format!("{publisher} {batch} {i}"))));
                bus.publish(&(0..25).map(event).collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut deliveries = read(&*bus, 1000).await;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    nothing_left(&*bus).await;
    deliveries.sort_by_key(|delivery| delivery.id);
    deliveries.dedup_by_key(|delivery| event_of(delivery).event_id);
    assert_eq!(deliveries.len(), 1000);
}

pub async fn an_entry_has_the_clock_of_the_bus<F: BusFixture>() {
    let fixture = F::fresh().await;
    let bus = fixture.port();
    let before = bus.now().await.unwrap();
    bus.publish(&events(1)).await.unwrap();
    let delivery = read(&*bus, 1).await.remove(0);
    let after = bus.now().await.unwrap();
    assert_eq!(delivery.clock(), delivery.added_at.min(delivery.read_at));
    // An id has milliseconds only.
    assert!(delivery.added_at.micros() + 1_000 >= before.micros() && delivery.added_at <= after);
    assert!(delivery.read_at.micros() + 1_000 >= delivery.added_at.micros() && delivery.read_at <= after);
}

pub async fn erasing_counts_what_is_unfinished<F: BusFixture>() {
    let fixture = F::fresh().await;
    let (bus, events) = (fixture.port(), events(3));
    let chunk = events[1].chunk_id();
    bus.publish(&events).await.unwrap();
    assert_eq!(bus.erase(chunk, Erasing::Remove).await.unwrap().unfinished, 1, "it is not read yet");
    let deliveries = read(&*bus, 3).await;
    assert_eq!(bus.erase(chunk, Erasing::Remove).await.unwrap().unfinished, 1, "it is read and not acknowledged");
    bus.acknowledge(&ids(&deliveries[1..])).await.unwrap();
    assert_eq!(bus.erase(chunk, Erasing::Remove).await.unwrap().unfinished, 0);
    assert_eq!(
        bus.erase(chunk, Erasing::Remove).await.unwrap(),
        chunk_sync_engine::ports::BusErasure::default(),
        "nothing is left"
    );
    assert_eq!(bus.depth().await.unwrap().pending, 1, "the others stay");
}

/// For a bus whose bound is 100,000 bytes: publishers are refused before it holds several times as much, and continue once
/// the entries are finished.
pub async fn a_bound_in_bytes_holds(bus: &Port) {
    let (events, mut published) = (events(2_000), 0);
    let busy = loop {
        assert!(published + 10 <= events.len(), "{published} events were published on a bus of 100,000 bytes");
        match bus.publish(&events[published..published + 10]).await {
            Ok(_) => published += 10,
            Err(fault) => break fault,
        }
    };
    assert_eq!(busy.class, FaultClass::Busy, "{busy}");
    assert!(busy.message.contains("100000 bytes"), "{busy}");
    assert!((10..=600).contains(&published), "{published} events of some kilobytes");
    let deliveries = read(bus, published).await;
    bus.acknowledge(&ids(&deliveries)).await.unwrap();
    bus.publish(&events[published..=published]).await.expect("there is room again");
}
