//! Conflicts of writers are recorded once, with the row; a conflict that waits for an operator is decided by an event
//! like any other.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::conflicts::{Choice, Undecidable, decide};
use chunk_sync_engine::ports::{ConflictFilter, ConflictRecord, Projection};
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_engine::{Clock, Ports, Publisher, Service, Settings, WorkerSettings};
use chunk_sync_model::merge::{Outcome, Strategies, Unresolvable};
use chunk_sync_model::{Body, Chunk, Event, EventType, Limits, Origin, Target, Writer};
use chunk_sync_testkit::memory::{MemoryBus, MemoryRecords, MemoryStore, memory_ports};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// All stores and the bus in memory, and a service that leaves conflicts of titles to the operator.
struct World {
    ports: Ports,
    publisher: Publisher,
    service: Service,
    keep: Duration,
    dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let store = |target| Arc::new(MemoryStore::new(target, Limits::default())) as Arc<dyn Projection>;
        let (bus, records) = (Arc::new(MemoryBus::new(10_000)), Arc::new(MemoryRecords::default()));
        let stores = vec![store(Target::Qdrant), store(Target::Neo4j)];
        let ports = memory_ports(&bus, &records, stores);
        let publisher = Publisher::new(bus, Arc::new(Limits::default()));
        let (dir, keep) = (TempDir::new().unwrap(), Duration::from_secs(3600));
        let service = start(&ports, &dir, keep).await;
        Self { ports, publisher, service, keep, dir }
    }

    /// Publishes the events, and waits until they are carried.
    async fn carry(&self, events: Vec<Event>) {
        self.publisher.publish(events).await.unwrap();
        self.service.until_idle().await.unwrap();
    }

    async fn restart(mut self) -> Self {
        self.service.stop().await.unwrap();
        self.service = start(&self.ports, &self.dir, self.keep).await;
        self
    }

    async fn recorded(&self, open: bool) -> Vec<ConflictRecord> {
        let filter = ConflictFilter { open, ..ConflictFilter::default() };
        self.ports.records.conflicts(&filter, usize::MAX).await.unwrap().entries
    }

    async fn decide(&self, entry: &ConflictRecord, choice: &Choice) -> Result<Event, Undecidable> {
        Ok(decide(&*self.ports.records, &self.publisher, entry, choice, &self.ports.clock).await?.event)
    }

    async fn title(&self, id: u128) -> Option<String> {
        let row = self.ports.records.rows_of(&[Uuid::from_u128(id)]).await.unwrap().pop().flatten()?;
        row.state?.chunk.metadata.extra.get("title")?.as_str().map(str::to_owned)
    }

    async fn agrees(&self) {
        let options = Options { still: Duration::from_millis(50), ..Options::default() };
        let report = verify(&self.ports, &options, &|_| {}).await.unwrap();
        assert!(report.consistent, "{:?}", report.differences);
    }
}

async fn start(ports: &Ports, dir: &TempDir, keep_conflicts: Duration) -> Service {
    let strategies = Strategies::default().with_part("metadata.title", "manual").unwrap();
    let worker = WorkerSettings { wait: Duration::from_millis(20), ..WorkerSettings::default() };
    let settings = Settings { strategies, keep_conflicts, worker, ..Settings::new(dir.path().join("wal")) };
    Service::start(ports.clone(), settings).await.unwrap()
}

/// The chunk as a writer publishes it, some seconds after a fixed time.
fn view(id: u128, origin: Origin, seconds: u8, content: &str, title: Option<&str>) -> Event {
    let mut chunk: Chunk = serde_json::from_value(json!({
        "id": Uuid::from_u128(id), "system_origin": origin, "content": content, "chunk_type": "text",
        "source": {"type": "api"}, "location": {"start_char": 0, "end_char": 9, "chunk_index": 0}, "organization": {},
        "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": format!("2026-01-01T00:00:{seconds:02}Z")},
    }))
    .unwrap();
    chunk.metadata.extra.extend(title.map(|title| ("title".to_owned(), json!(title))));
    Event::of_chunk(chunk)
}

fn delete(id: u128) -> Event {
    let body = Body::Id(Uuid::from_u128(id));
    let timestamp = jiff::Timestamp::now().into();
    Event {
        kind: EventType::Delete,
        event_id: Uuid::new_v4(),
        timestamp,
        body,
        ..view(id, Origin::Claude, 0, "", None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_conflict_is_recorded_once_however_often_its_events_are_delivered() {
    let world = World::new().await;
    let of = |origin, seconds, text: &str| -> Vec<Event> {
        (0..100).map(|id| view(id, origin, seconds, &format!("{text}, number {id}"), None)).collect()
    };
    let events = [of(Origin::Claude, 1, "text by claude"), of(Origin::Cognee, 2, "text by cognee")].concat();
    world.carry(events.clone()).await;
    let recorded = world.recorded(false).await;
    assert_eq!(recorded.len(), 100);
    for entry in &recorded {
        let (conflict, number) = (&entry.noted.conflict, entry.chunk.as_u128());
        assert_eq!((conflict.outcome, conflict.part.to_string()), (Outcome::SourceKept, "content".into()));
        assert_eq!(conflict.source.value, Some(json!(format!("text by cognee, number {number}"))));
        assert_eq!(conflict.target.value, Some(json!(format!("text by claude, number {number}"))));
        let row = world.ports.records.rows_of(&[entry.chunk]).await.unwrap().remove(0).unwrap();
        assert_eq!(entry.noted.sync_version, row.version);
    }
    let again: Vec<Event> = events.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
    world.carry(again.clone()).await;
    let world = world.restart().await;
    world.carry(again).await;
    assert_eq!(world.recorded(false).await, recorded);
    world.agrees().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_event_closes_open_conflicts_and_every_store_holds_its_value() {
    let world = World::new().await;
    let edits = |id| {
        let text = "a text of both writers";
        vec![view(id, Origin::Claude, 1, text, Some("by claude")), view(id, Origin::Cognee, 2, text, Some("by cognee"))]
    };
    world.carry([edits(1), edits(2), edits(3)].concat()).await;
    let open = world.recorded(true).await;
    assert_eq!(open.iter().map(|entry| entry.chunk.as_u128()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(
        (world.ports.records.open_conflicts().await.unwrap(), world.title(1).await.as_deref()),
        (3, Some("by claude"))
    );
    let source = world.decide(&open[2], &Choice::Source).await.unwrap();
    // The operator chooses the current value for one, and a value that no writer published for another.
    let target = world.decide(&open[1], &Choice::Target).await.unwrap();
    let another = world.decide(&open[0], &Choice::Value(json!("by both"))).await.unwrap();
    world.carry(vec![source.clone(), target, another, source]).await;
    assert_eq!(world.recorded(true).await, []);
    for entry in world.recorded(false).await {
        assert_eq!(entry.noted.closed.map(|closed| closed.by), Some(Writer::Operator));
        assert_eq!(entry.noted.conflict.outcome, Outcome::Open, "the original outcome stays on record");
    }
    let titles = [world.title(1).await, world.title(2).await, world.title(3).await];
    assert_eq!(titles.each_ref().map(|title| title.as_deref().unwrap()), ["by cognee", "by claude", "by both"]);
    world.agrees().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_losing_value_can_be_restored_and_a_decision_without_effect_is_reported() {
    let world = World::new().await;
    world.carry(vec![view(1, Origin::Claude, 1, "text by claude", None)]).await;
    world.carry(vec![view(1, Origin::Cognee, 2, "text by cognee", None)]).await;
    let entry = world.recorded(false).await.remove(0);
    let (records, publisher) = (&*world.ports.records, &world.publisher);
    let revert = Choice::reverting(&entry.noted);
    assert_eq!(revert, Choice::Target);
    let decision = decide(records, publisher, &entry, &revert, &Clock::default()).await.unwrap();
    assert!(decision.changes);
    world.carry(vec![decision.event]).await;
    assert!(!decide(records, publisher, &entry, &revert, &Clock::default()).await.unwrap().changes);
    assert!(decide(records, publisher, &entry, &Choice::Source, &Clock::default()).await.unwrap().changes);
    let row = records.rows_of(&[entry.chunk]).await.unwrap().remove(0).unwrap();
    assert_eq!(row.state.unwrap().chunk.content, "text by claude");
    world.agrees().await;
    // A late change that is not the result is the side that lost.
    world
        .carry(vec![
            view(2, Origin::Cognee, 2, "text by cognee", None),
            view(2, Origin::Claude, 1, "text by claude", None),
        ])
        .await;
    let late = world.recorded(false).await.remove(0);
    assert_eq!((late.noted.conflict.outcome, Choice::reverting(&late.noted)), (Outcome::TargetKept, Choice::Source));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_decision_is_refused_with_the_reason() {
    let world = World::new().await;
    let both = [view(1, Origin::Claude, 1, "text by claude", None), view(1, Origin::Cognee, 2, "text by cognee", None)];
    world.carry(both.to_vec()).await;
    let mut entry = world.recorded(false).await.remove(0);
    let short = world.decide(&entry, &Choice::Value(json!("short"))).await.unwrap_err();
    assert!(matches!(&short, Undecidable::Invalid(invalid) if invalid.field == "chunk.content"), "{short}");
    let number = world.decide(&entry, &Choice::Value(json!(7))).await.unwrap_err();
    assert!(matches!(&number, Undecidable::Unresolvable(Unresolvable::Value { .. })), "{number}");
    let absent = world.decide(&entry, &Choice::Base).await.unwrap_err();
    assert!(matches!(&absent, Undecidable::Unresolvable(Unresolvable::Required(_))), "{absent}");
    entry.noted.conflict.target.value = None;
    let lost = world.decide(&entry, &Choice::Target).await.unwrap_err();
    assert!(matches!(lost, Undecidable::NotKept("target")), "{lost}");
    world.carry(vec![delete(1)]).await;
    let gone = world.decide(&entry, &Choice::Source).await.unwrap_err();
    assert!(matches!(gone, Undecidable::Deleted(_)), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_removes_conflicts_settled_long_ago_and_no_open_one() {
    let mut world = World::new().await;
    let text = "a text of both writers";
    let edits = [
        view(1, Origin::Claude, 1, text, Some("by claude")),
        view(1, Origin::Cognee, 2, text, Some("by cognee")),
        view(2, Origin::Claude, 1, "text by claude", None),
        view(2, Origin::Cognee, 2, "text by cognee", None),
    ];
    world.carry(edits.to_vec()).await;
    assert_eq!(world.recorded(false).await.len(), 2);
    world.keep = Duration::ZERO;
    let world = world.restart().await;
    let forgotten = async {
        while world.recorded(false).await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), forgotten).await.expect("the settled conflict stays");
    assert!(world.recorded(false).await[0].noted.is_open());
}
