//! Contract of a bus whose entries are finished by the merge, beyond that of every bus.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, Commit, CurrentState, Delivery, EntryId, Fence, FinishedBy, MergeScope, PendingWrite, Records,
};
use chunk_sync_model::Target;
use chunk_sync_model::{Event, Limits};
use uuid::Uuid;

use crate::bus::BusFixture;
use crate::merging::Merging as _;
use crate::records::merged;
use crate::states::{bare, chunk};

/// A publication whose transaction has begun: its entry has a number and cannot be read yet. Awaiting it commits.
pub type Begun = Pin<Box<dyn Future<Output = EntryId> + Send>>;

/// Long enough for everything that must happen.
const LONG: Duration = Duration::from_secs(20);

/// A read that finds nothing ends after this time.
const SHORT: Duration = Duration::from_millis(50);

/// What such a bus offers to its contract tests beside its port.
#[async_trait]
pub trait MergeBusFixture: BusFixture {
    /// The records whose merges finish the entries of the port.
    fn records(&self) -> Arc<dyn Records>;

    /// The same bus as another process sees it.
    async fn another(&self) -> Arc<dyn Bus>;

    /// Begins to publish an event in its own transaction.
    async fn begin(&self, event: &Event) -> Begun;
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|i| Event::of_chunk(chunk(&bare(&format!("event {i}"))))).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<EntryId> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

fn event_of(delivery: &Delivery) -> Event {
    Event::from_fields(&delivery.fields, &Limits::default()).unwrap()
}

async fn read(bus: &dyn Bus, count: usize) -> Vec<Delivery> {
    let (mut all, began) = (Vec::new(), Instant::now());
    while all.len() < count {
        assert!(began.elapsed() < LONG, "only {} of {count} entries were delivered", all.len());
        all.extend(bus.read(count - all.len(), Duration::from_secs(1)).await.unwrap());
    }
    all
}

/// Merges the deliveries as the engine does: the outbox lists every store, and the entries are finished.
async fn merge(records: &dyn Records, deliveries: &[Delivery]) {
    let events: Vec<Event> = deliveries.iter().map(event_of).collect();
    let chunks: Vec<Uuid> = events.iter().map(Event::chunk_id).collect();
    let finished = ids(deliveries);
    let decide = |held: Vec<CurrentState>| {
        let commit = |(held, event): (CurrentState, &Event)| Commit {
            outbox: vec![Target::Qdrant, Target::Neo4j],
            ..merged(held, event)
        };
        held.into_iter().zip(&events).map(commit).collect()
    };
    let scope = MergeScope { ids: &chunks, fence: &Fence::default(), finished: &finished };
    records.merge_in(scope, &decide).await.unwrap();
}

pub async fn a_merge_finishes_its_entries_and_fills_the_outbox<F: MergeBusFixture>() {
    let mut fixture = F::fresh().await;
    let (bus, records) = (fixture.port(), fixture.records());
    assert_eq!(bus.finished_by(), FinishedBy::Merge);
    let published = bus.publish(&events(10)).await.unwrap();
    let deliveries = read(&*bus, 10).await;
    merge(&*records, &deliveries[..4]).await;
    let depth = bus.depth().await.unwrap();
    assert_eq!((depth.unread, depth.pending, depth.oldest), (0, 6, Some(published[4])));
    let mut pending: Vec<Uuid> =
        records.pending_writes(Target::Neo4j, 99).await.unwrap().iter().map(|pending_write| pending_write.id).collect();
    pending.sort_unstable();
    let mut chunks: Vec<Uuid> = deliveries[..4].iter().map(|delivery| event_of(delivery).chunk_id()).collect();
    chunks.sort_unstable();
    assert_eq!(pending, chunks);
    drop((bus, records));
    fixture.reopen().await;
    let again = read(&*fixture.port(), 6).await;
    assert_eq!(ids(&again), published[4..], "entries that no merge has finished are delivered again");
}

pub async fn a_merge_that_changes_nothing_finishes_its_entries<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, records) = (fixture.port(), fixture.records());
    bus.publish(&events(3)).await.unwrap();
    let deliveries = read(&*bus, 3).await;
    let (chunks, finished) = ([event_of(&deliveries[0]).chunk_id()], ids(&deliveries));
    let scope = MergeScope { ids: &chunks, fence: &Fence::default(), finished: &finished };
    records.merge_in(scope, &|_| Vec::new()).await.unwrap();
    assert_eq!(bus.depth().await.unwrap().pending, 0);
    // As after a lost answer.
    records.merge_in(scope, &|_| Vec::new()).await.unwrap();
    assert!(bus.read(9, SHORT).await.unwrap().is_empty());
}

pub async fn an_abandoned_merge_finishes_wholly_or_not_at_all<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, records) = (fixture.port(), fixture.records());
    for round in 0..12 {
        let event = Event::of_chunk(chunk(&bare(&format!("round {round}"))));
        let id = bus.publish(std::slice::from_ref(&event)).await.unwrap()[0];
        let deliveries = read(&*bus, 1).await;
        let limit = Duration::from_micros(50 << round);
        let abandoned = tokio::time::timeout(limit, merge(&*records, &deliveries)).await.is_err();
        // Waits for the locks of a merge in progress.
        records.merge(&[event.chunk_id()], &|_| Vec::new()).await.unwrap();
        let row = records.rows_of(&[event.chunk_id()]).await.unwrap().pop().flatten();
        let pending = records
            .pending_writes(Target::Qdrant, 99)
            .await
            .unwrap()
            .iter()
            .any(|pending_write| pending_write.id == event.chunk_id());
        let unfinished = bus.depth().await.unwrap().oldest == Some(id);
        assert!(abandoned || row.is_some(), "a merge that was answered is lost");
        assert_eq!((row.is_some(), pending), (!unfinished, !unfinished), "given up after {limit:?}");
        merge(&*records, &deliveries).await;
        assert_eq!(bus.depth().await.unwrap().oldest, None);
    }
}

pub async fn what_a_merge_finishes_makes_room<F: MergeBusFixture>() {
    let fixture = F::narrow(4).await;
    let (bus, events) = (fixture.port(), events(5));
    bus.publish(&events[..4]).await.unwrap();
    let deliveries = read(&*bus, 4).await;
    let publisher = tokio::spawn({
        let (bus, event) = (fixture.another().await, events[4].clone());
        async move { bus.publish(&[event]).await }
    });
    merge(&*fixture.records(), &deliveries).await;
    publisher.await.unwrap().expect("the publisher continues as soon as there is room");
    assert_eq!(event_of(&read(&*bus, 1).await[0]), events[4]);
}

pub async fn an_entry_that_commits_late_is_read_though_later_ones_were_finished<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, events) = (fixture.port(), events(40));
    let first = fixture.begin(&events[0]).await;
    let second = fixture.begin(&events[1]).await;
    let later = bus.publish(&events[2..]).await.unwrap();
    let deliveries = read(&*bus, 38).await;
    assert_eq!(ids(&deliveries), later);
    merge(&*fixture.records(), &deliveries).await;
    // Long enough that a reader has advanced its mark.
    assert!(bus.read(9, Duration::from_millis(2_500)).await.unwrap().is_empty());
    let second = second.await;
    let came = read(&*bus, 1).await;
    assert_eq!((ids(&came), event_of(&came[0])), (vec![second], events[1].clone()));
    merge(&*fixture.records(), &came).await;
    let first = first.await;
    assert!(first < second && second < later[0], "numbers are given out in order");
    let came = read(&*bus, 1).await;
    assert_eq!((ids(&came), event_of(&came[0])), (vec![first], events[0].clone()));
}

pub async fn a_publication_that_never_commits_blocks_no_other<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, events) = (fixture.port(), events(3));
    drop(fixture.begin(&events[0]).await);
    let published = bus.publish(&events[1..]).await.unwrap();
    let deliveries = read(&*bus, 2).await;
    assert_eq!(ids(&deliveries), published);
    merge(&*fixture.records(), &deliveries).await;
    assert_eq!(bus.depth().await.unwrap().oldest, None);
    assert!(bus.read(9, SHORT).await.unwrap().is_empty());
}

pub async fn what_other_processes_publish_is_read_while_it_comes<F: MergeBusFixture>() {
    const EACH: usize = 120;
    let fixture = F::fresh().await;
    let (bus, records) = (fixture.port(), fixture.records());
    let mut publishers = Vec::new();
    for publisher in 0..4 {
        let bus = fixture.another().await;
        publishers.push(tokio::spawn(async move {
            for i in 0..EACH {
                let event = Event::of_chunk(chunk(&bare(&format!("{publisher} {i}"))));
                bus.publish(&[event]).await.unwrap();
            }
        }));
    }
    let (mut seen, began) = (BTreeSet::new(), Instant::now());
    while seen.len() < 4 * EACH {
        assert!(began.elapsed() < 3 * LONG, "only {} entries were delivered", seen.len());
        let deliveries = bus.read(16, Duration::from_secs(1)).await.unwrap();
        for delivery in &deliveries {
            assert!(seen.insert(event_of(delivery).event_id), "{} was delivered twice", delivery.id);
        }
        merge(&*records, &deliveries).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let depth = bus.depth().await.unwrap();
    assert_eq!((depth.unread, depth.pending, depth.oldest), (0, 0, None));
}

pub async fn a_waiting_read_wakes_when_another_process_publishes<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, other) = (fixture.port(), fixture.another().await);
    assert!(bus.read(1, SHORT).await.unwrap().is_empty());
    let reader = tokio::spawn(async move { bus.read(10, LONG).await.unwrap() });
    other.publish(&events(1)).await.unwrap();
    let came = tokio::time::timeout(LONG / 4, reader).await.expect("the read wakes before its wait ends").unwrap();
    assert_eq!(came.len(), 1);
}

pub async fn a_removed_outbox_entry_stays_removed<F: MergeBusFixture>() {
    let fixture = F::fresh().await;
    let (bus, records) = (fixture.port(), fixture.records());
    bus.publish(&events(2)).await.unwrap();
    let deliveries = read(&*bus, 2).await;
    merge(&*records, &deliveries).await;
    let pending: Vec<PendingWrite> = records.pending_writes(Target::Qdrant, 9).await.unwrap();
    records.drained(&pending).await.unwrap();
    let counts = records.outbox_counts().await.unwrap();
    let count = |target| counts.get(&target).copied().unwrap_or_default();
    assert_eq!((count(Target::Qdrant), count(Target::Neo4j)), (0, 2));
}
