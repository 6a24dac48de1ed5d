//! The events that wait beside the rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_connectors::postgres::{PostgresBus, PostgresConfig, PostgresLease, PostgresRecords};
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
        Self::with(database.prepared().await).await
    }

    async fn with(records: PostgresRecords) -> Self {
        let records = Arc::new(records);
        let bus = Arc::new(PostgresBus::new(Arc::clone(&records), chunk_sync_connectors::MAX_BACKLOG));
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
    assert!(running.vectors.fetch_documents(&[id, last]).await.unwrap().iter().all(Option::is_some));
    assert!(running.bus.dead(None, 1).await.unwrap().is_empty());
    running.service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_locked_rows_are_found_at_once_and_wait_beside_the_others() {
    let database = Database::fresh::<Pg18>().await;
    let running = Running::start(&database).await;
    let all = states(160);
    let events: Vec<Event> = all.iter().map(|state| Event::of_chunk(state.chunk.clone())).collect();
    running.bus.publish(&events[..120]).await.unwrap();
    running.service.until_idle().await.unwrap();
    let ids: Vec<Uuid> = all.iter().map(|state| state.chunk.id).collect();
    let other = database.client().await;
    other.batch_execute("BEGIN").await.unwrap();
    other.query("SELECT FROM unified.chunks WHERE id = ANY($1) FOR UPDATE", &[&&ids[..100]]).await.unwrap();
    let mut locked = running.records.locked_rows(&ids).await.unwrap();
    let mut expected = ids[..100].to_vec();
    locked.sort_unstable();
    expected.sort_unstable();
    assert_eq!(locked, expected, "neither free rows nor chunks without a row");

    let updates = all[..120].iter().map(|state| update(state, "another content of the chunk", 1));
    let updates: Vec<Event> = updates.chain(events[120..].iter().cloned()).collect();
    running.bus.publish(&updates).await.unwrap();
    running.until("the locked rows wait", async || waiting(&running).await == 100).await;
    running.until("the others are merged", async || running.content(ids[159]).await.is_some()).await;
    assert_eq!(running.content(ids[110]).await.unwrap(), "another content of the chunk");
    other.batch_execute("ROLLBACK").await.unwrap();
    running.service.until_idle().await.unwrap();
    assert_eq!(running.content(ids[50]).await.unwrap(), "another content of the chunk");
    running.service.stop().await.unwrap();
}

/// The number of waiting events.
async fn waiting(running: &Running) -> u64 {
    running.records.waiting_counts().await.unwrap().iter().map(|count| count.events).sum()
}

/// Every row of `app.projects` is a parent.
const PARENTS: &str = "CREATE SCHEMA app; CREATE TABLE app.projects (id uuid PRIMARY KEY);
    ALTER TABLE unified.chunks ADD FOREIGN KEY (project_id) REFERENCES app.projects (id)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_without_its_parent_row_waits_alone_and_is_merged_once_the_row_is_there() {
    let database = Database::fresh::<Pg18>().await;
    let running = Running::start(&database).await;
    database.meddle(PARENTS).await;
    let all: Vec<State> = states(60).iter().map(|state| without_project(state)).collect();
    let (child, project) = (&all[30], Uuid::from_u128(7));
    let with_parent = |state: &State| {
        let mut chunk = state.chunk.clone();
        if chunk.id == child.chunk.id {
            chunk.organization.project_id = Some(project);
        }
        Event::of_chunk(chunk)
    };
    running.bus.publish(&all.iter().map(with_parent).collect::<Vec<_>>()).await.unwrap();
    running.until("it waits", async || waiting(&running).await == 1).await;
    let others: Vec<Uuid> = all.iter().map(|state| state.chunk.id).filter(|id| *id != child.chunk.id).collect();
    running
        .until("the stores hold all others", async || {
            running.vectors.fetch_documents(&others).await.unwrap().iter().all(Option::is_some)
        })
        .await;
    assert!(running.bus.depth().await.unwrap().oldest.is_none(), "neither bus nor slot waits for it");
    assert_eq!(running.content(child.chunk.id).await, None);
    database.meddle(&format!("INSERT INTO app.projects VALUES ('{project}')")).await;
    running.service.until_idle().await.unwrap();
    assert_eq!(running.content(child.chunk.id).await.as_ref(), Some(&child.chunk.content));
    assert!(running.bus.dead(None, 1).await.unwrap().is_empty());
    running.service.stop().await.unwrap();
}

fn without_project(state: &State) -> State {
    let mut state = state.clone();
    state.chunk.organization.project_id = None;
    state
}

/// A trigger that takes longer over one row than a statement may.
const SLOW: &str = "CREATE FUNCTION unified.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.id = TG_ARGV[0]::uuid THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_trigger_takes_too_long_waits_alone() {
    let database = Database::fresh::<Pg15>().await;
    database.prepared().await;
    let config = PostgresConfig { statement_timeout: Duration::from_secs(1), ..database.config() };
    let running = Running::with(PostgresRecords::connect(config).await.unwrap()).await;
    let all = states(101);
    let (slow, last) = (all[40].chunk.id, all[100].chunk.id);
    database.meddle(SLOW).await;
    let trigger = format!(
        "CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON unified.chunks FOR EACH ROW EXECUTE FUNCTION unified.slow('{slow}')"
    );
    database.meddle(&trigger).await;
    let events: Vec<Event> = all.iter().map(|state| Event::of_chunk(state.chunk.clone())).collect();
    running.bus.publish(&events[..100]).await.unwrap();
    let others: Vec<Uuid> = all[..100].iter().map(|state| state.chunk.id).filter(|id| *id != slow).collect();
    running
        .until("the stores hold all others", async || {
            running.vectors.fetch_documents(&others).await.unwrap().iter().all(Option::is_some)
        })
        .await;
    running.until("the slow row waits alone", async || waiting(&running).await == 1).await;
    assert!(running.bus.depth().await.unwrap().oldest.is_none(), "the bus does not wait for it");
    // Each attempt with the slow row takes as long as a statement may, and no later chunk waits for more than that.
    let began = Instant::now();
    running.bus.publish(&events[100..]).await.unwrap();
    running.until("a later chunk is merged", async || running.content(last).await.is_some()).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((running.content(slow).await, waiting(&running).await), (None, 1));
    database.meddle("DROP TRIGGER slow ON unified.chunks").await;
    running.service.until_idle().await.unwrap();
    assert_eq!(running.content(slow).await.as_ref(), Some(&all[40].chunk.content));
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
    let row = running.records.rows_of(&[long]).await.unwrap().remove(0).unwrap();
    assert!(row.oversize && row.state.is_none() && !row.is_absent(), "{:?}", row.lives);
    running.service.stop().await.unwrap();
}
