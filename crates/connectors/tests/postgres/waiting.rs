//! The events that wait beside the rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_connectors::postgres::{PostgresBus, PostgresLease, PostgresRecords};
use chunk_sync_engine::ports::{Bus as _, DeadLetters as _, Ports, Projection, SystemOfRecord as _, WaitingEvents};
use chunk_sync_engine::{Service, Settings};
use chunk_sync_model::{Event, Limits, State, Target, Time};
use chunk_sync_testkit::memory::MemoryStore;
use chunk_sync_testkit::states::{changed, states};
use chunk_sync_testkit::waiting;
use tempfile::TempDir;
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18};

#[tokio::test]
async fn the_table_of_waiting_events_keeps_its_promises() {
    let database = Database::fresh::<Pg15>().await;
    waiting::suite(&database.prepared().await).await;
    let database = Database::fresh::<Pg18>().await;
    let records = database.prepared().await;
    waiting::suite(&records).await;
    waiting::bounded_reads(&records).await;
}

/// The service on one database, with its bus there and other stores in memory.
struct Running {
    records: Arc<PostgresRecords>,
    bus: Arc<PostgresBus>,
    vectors: MemoryStore,
    service: Service,
    _dir: TempDir,
}

impl Running {
    async fn start(database: &Database) -> Self {
        let records = Arc::new(database.prepared().await);
        let bus = Arc::new(PostgresBus::new(Arc::clone(&records), 100_000));
        let vectors = MemoryStore::new(Target::Qdrant, Limits::default());
        let lease = Arc::new(PostgresLease::new(Arc::clone(&records), "no_slot").unwrap());
        let dir = TempDir::new().unwrap();
        let stores: Vec<Arc<dyn Projection>> = vec![Arc::new(vectors.clone())];
        let ports =
            Ports::new(Arc::clone(&bus) as _, Arc::clone(&records) as _, Arc::clone(&records) as _, lease, stores);
        let settings = Settings::new(dir.path());
        let service = Service::start(ports, settings).await.unwrap();
        Self { records, bus, vectors, service, _dir: dir }
    }

    async fn content(&self, id: Uuid) -> Option<String> {
        let row = self.records.rows_of(&[id]).await.unwrap().remove(0)?;
        Some(row.state?.chunk.content.clone())
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

fn update(base: &Arc<State>, content: &str, second: i64) -> Event {
    let mut chunk = changed(base, content).chunk.clone();
    chunk.metadata.updated_at = Time::from_micros(base.chunk.metadata.updated_at.micros() + second * 1_000_000);
    Event::of_chunk(chunk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_waits_alone_and_its_events_keep_their_order() {
    let database = Database::fresh::<Pg15>().await;
    let running = Running::start(&database).await;
    let all = states(201);
    let (locked, others) = all.split_first().unwrap();
    let id = locked.chunk.id;
    running.bus.publish(&[Event::of_chunk(locked.chunk.clone())]).await.unwrap();
    running.until("the first state is merged", async || running.content(id).await.is_some()).await;

    let other = database.client().await;
    other.batch_execute(&format!("BEGIN; SELECT FROM unified.chunks WHERE id = '{id}' FOR UPDATE")).await.unwrap();
    let mut events = vec![update(locked, "the second content of the chunk", 1)];
    events.extend(others.iter().map(|state| Event::of_chunk(state.chunk.clone())));
    events.push(update(locked, "the third content of the chunk", 2));
    running.bus.publish(&events).await.unwrap();
    let last = others[199].chunk.id;
    running.until("the others are merged", async || running.content(last).await.is_some()).await;
    running
        .until("both events of the locked row wait, and the bus is empty", async || {
            let waiting = running.records.waiting_of(&[id], 10).await.unwrap();
            waiting.len() == 2 && running.bus.depth().await.unwrap().oldest.is_none()
        })
        .await;
    assert!(running.service.health().is_ready(), "one locked row is no failure");
    assert_eq!(running.content(id).await.unwrap(), locked.chunk.content);

    // The service does not lock the others for long: an application that updates one of them waits briefly.
    let began = Instant::now();
    database.meddle(&format!("UPDATE unified.chunks SET summary = 'mine' WHERE id = '{last}'")).await;
    assert!(began.elapsed() < Duration::from_secs(1));

    other.batch_execute("COMMIT").await.unwrap();
    running.service.until_idle().await.unwrap();
    assert_eq!(running.content(id).await.unwrap(), "the third content of the chunk");
    assert!(running.vectors.fetch_fingerprints(&[id, last]).await.unwrap().iter().all(Option::is_some));
    assert!(running.bus.dead(None, 1).await.unwrap().is_empty());
    running.service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_above_the_limit_of_bytes_is_refused_alone_and_not_read() {
    let database = Database::fresh::<Pg15>().await;
    let running = Running::start(&database).await;
    let all = states(3);
    let (long, sound) = (all[0].chunk.id, all[1].chunk.id);
    running.bus.publish(&[Event::of_chunk(all[0].chunk.clone())]).await.unwrap();
    running.service.until_idle().await.unwrap();
    let grow = format!("UPDATE unified.chunks SET content = repeat('x', 70000000) WHERE id = '{long}'");
    database.meddle(&grow).await;
    let events = [update(&all[0], "another content of the chunk", 1), Event::of_chunk(all[1].chunk.clone())];
    running.bus.publish(&events).await.unwrap();
    running.service.until_idle().await.unwrap();
    assert!(running.content(sound).await.is_some());
    let letters = running.bus.dead(None, 10).await.unwrap();
    let error = letters[0].text("error").unwrap();
    assert!(letters.len() == 1 && error.contains("limits.row_max_bytes"), "{error}");
    running.service.stop().await.unwrap();
}
