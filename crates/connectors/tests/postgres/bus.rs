//! The bus in the database of the rows, on both servers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_connectors::postgres::{PostgresBus, PostgresConfig, PostgresRecords};
use chunk_sync_connectors::{MAX_BACKLOG, MaxBacklog};
use chunk_sync_engine::ports::{
    Bus, Commit, CurrentState, DeadLetter, DeadLetters as _, Delivery, EntryId, FaultClass, Fence, Handover,
    MergeScope, Outbox as _, Records, SystemOfRecord as _,
};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Target, Time};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::bus::BusFixture;
use chunk_sync_testkit::merge_bus::{Begun, MergeBusFixture};
use chunk_sync_testkit::merging::{Merging as _, commit};
use chunk_sync_testkit::states::{bare, chunk};
use tokio_postgres::Client;

use crate::fixture::{Database, Pg15, Server};

const SHORT: Duration = Duration::from_millis(60);

/// A database, with the bus of one process.
pub(crate) struct OnServer<S> {
    records: Arc<PostgresRecords>,
    bus: Arc<PostgresBus>,
    database: Database,
    bound: u64,
    server: PhantomData<S>,
}

impl<S: Server> OnServer<S> {
    async fn of(bound: u64) -> Self {
        let database = Database::fresh::<S>().await;
        let records = Arc::new(database.prepared().await);
        let bus = Arc::new(PostgresBus::new(Arc::clone(&records), MaxBacklog::of_entries(bound)));
        Self { records, bus, database, bound, server: PhantomData }
    }
}

#[async_trait]
impl<S: Server> Fixture for OnServer<S> {
    type Port = dyn Bus;

    async fn fresh() -> Self {
        Self::of(100_000).await
    }

    fn port(&self) -> Arc<dyn Bus> {
        Arc::clone(&self.bus) as _
    }

    async fn reopen(&mut self) {
        self.records = Arc::new(self.database.records().await);
        self.bus = Arc::new(PostgresBus::new(Arc::clone(&self.records), MaxBacklog::of_entries(self.bound)));
        self.bus.begin(Handover::Silent).await.unwrap();
    }
}

#[async_trait]
impl<S: Server> BusFixture for OnServer<S> {
    async fn narrow(bound: u64) -> Self {
        Self::of(bound).await
    }

    async fn add(&self, fields: Fields) -> EntryId {
        add(&self.database.client().await, fields).await
    }
}

#[async_trait]
impl<S: Server> MergeBusFixture for OnServer<S> {
    fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.records) as _
    }

    async fn another(&self) -> Arc<dyn Bus> {
        Arc::new(PostgresBus::new(Arc::new(self.database.records().await), MaxBacklog::of_entries(self.bound)))
    }

    async fn begin(&self, event: &Event) -> Begun {
        let client = self.database.client().await;
        client.batch_execute("BEGIN").await.unwrap();
        let id = add(&client, fields_of(event)).await;
        Box::pin(async move {
            client.batch_execute("COMMIT").await.unwrap();
            id
        })
    }
}

fn fields_of(event: &Event) -> Fields {
    event.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}

/// Publishes the way any SQL client can.
async fn add(client: &Client, fields: Fields) -> EntryId {
    let in_turn: Vec<Vec<u8>> = fields.into_iter().flat_map(|(name, value)| [name, value]).collect();
    let sql = "INSERT INTO chunk_sync.bus (fields) VALUES ($1) RETURNING id";
    let number: i64 = client.query_one(sql, &[&in_turn]).await.unwrap().get(0);
    EntryId { millis: 0, sequence: u64::try_from(number).unwrap() }
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|i| Event::of_chunk(chunk(&bare(&format!("event {i}"))))).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<EntryId> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

#[tokio::test]
async fn malformed_fields_are_refused_when_they_are_published() {
    let environment = OnServer::<Pg15>::fresh().await;
    let client = environment.database.client().await;
    for fields in ["'{a}'", "'{a, NULL}'", "'{{a, b}, {c, d}}'", "NULL"] {
        let sql = format!("INSERT INTO chunk_sync.bus (fields) VALUES ({fields}::bytea[])");
        assert!(client.batch_execute(&sql).await.is_err(), "{fields}");
    }
    client.batch_execute("INSERT INTO chunk_sync.bus (fields) VALUES ('{}')").await.unwrap();
    let deliveries = environment.bus.read(9, SHORT).await.unwrap();
    assert_eq!((deliveries.len(), &deliveries[0].fields), (1, &Vec::new()), "an entry without fields is delivered");
}

#[tokio::test]
async fn an_entry_that_crashes_its_processes_is_delivered_alone_and_counted_alone() {
    let mut environment = OnServer::<Pg15>::fresh().await;
    let published = environment.bus.publish(&events(6)).await.unwrap();
    for attempt in 1..=3 {
        let deliveries = environment.bus.read(6, SHORT).await.unwrap();
        assert_eq!((deliveries.len(), deliveries[0].attempt), (6, attempt));
        environment.reopen().await;
    }
    // From now on the first entry is the suspect: the later ones wait until it is finished.
    for attempt in 4..8 {
        let deliveries = environment.bus.read(6, SHORT).await.unwrap();
        assert_eq!(ids(&deliveries), published[..1]);
        assert_eq!(deliveries[0].attempt, attempt);
        assert!(environment.bus.read(6, SHORT).await.unwrap().is_empty());
        environment.reopen().await;
    }
    let deadly = environment.bus.read(6, SHORT).await.unwrap();
    assert_eq!((ids(&deadly), deadly[0].attempt), (published[..1].to_vec(), 8));
    environment.bus.dead_letter(&[letter(&deadly[0])]).await.unwrap();
    for id in &published[1..] {
        let next = environment.bus.read(6, SHORT).await.unwrap();
        assert_eq!((ids(&next), next[0].attempt), (vec![*id], 4), "an attempt was counted while the suspect was alone");
        environment.bus.acknowledge(&ids(&next)).await.unwrap();
    }
}

fn letter(delivery: &Delivery) -> DeadLetter {
    DeadLetter {
        id: Some(delivery.id),
        fields: delivery.fields.clone(),
        at: Time::from_micros(1_700_000_000_000_001),
        class: FaultClass::Rejected,
        error: "not possible".into(),
        field: None,
        attempts: delivery.attempt,
        missing: Target::ALL.to_vec(),
    }
}

#[tokio::test]
async fn a_merge_that_the_server_refuses_leaves_its_entries() {
    let environment = OnServer::<Pg15>::fresh().await;
    let client = environment.database.client().await;
    let refuses = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END $$; \
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON chunk_sync.records DEFERRABLE INITIALLY DEFERRED \
        FOR EACH ROW EXECUTE FUNCTION refuse()";
    // The trigger fires at commit, after the deletion of the entries.
    client.batch_execute(refuses).await.unwrap();
    let event = events(1).remove(0);
    let id = environment.bus.publish(std::slice::from_ref(&event)).await.unwrap()[0];
    let deliveries = environment.bus.read(1, SHORT).await.unwrap();
    let decide = |held: Vec<CurrentState>| {
        let merged = chunk_sync_model::merge::merge(
            held[0].record.clone(),
            None,
            &chunk_sync_model::merge::Change::from(&event),
            &chunk_sync_model::merge::Strategies::default(),
        );
        let commit = commit(event.chunk_id(), merged.record, merged.state);
        vec![Commit { row: None, outbox: vec![Target::Qdrant], ..commit }]
    };
    let finished = ids(&deliveries);
    let scope = MergeScope { ids: &[event.chunk_id()], fence: &Fence::default(), finished: &finished };
    let fault = environment.records.merge_in(scope, &decide).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Rejected, "{fault}");
    assert_eq!(environment.bus.depth().await.unwrap().oldest, Some(id));
    assert!(environment.records.pending_writes(Target::Qdrant, 9).await.unwrap().is_empty());
    assert!(
        environment.bus.read(9, SHORT).await.unwrap().is_empty(),
        "this process still holds the entry and retries it without another read"
    );
    environment.bus.dead_letter(&[letter(&deliveries[0])]).await.unwrap();
    let depth = environment.bus.depth().await.unwrap();
    assert_eq!((depth.oldest, depth.dead), (None, 1));
}

#[tokio::test]
async fn an_id_of_another_bus_names_no_entry_and_no_letter() {
    let environment = OnServer::<Pg15>::fresh().await;
    environment.bus.publish(&events(2)).await.unwrap();
    let deliveries = environment.bus.read(9, SHORT).await.unwrap();
    environment.bus.dead_letter(&[letter(&deliveries[0])]).await.unwrap();
    let foreign = EntryId { millis: 1_700_000_000_000, sequence: 1 };
    environment.bus.acknowledge(&[foreign]).await.unwrap();
    assert!(!environment.bus.drop_dead(foreign).await.unwrap());
    let depth = environment.bus.depth().await.unwrap();
    assert_eq!((depth.pending, depth.dead), (1, 1));
    assert!(environment.bus.dead(Some(foreign), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_time_of_the_oldest_entry_is_the_servers() {
    let environment = OnServer::<Pg15>::fresh().await;
    assert_eq!(environment.bus.oldest_at().await.unwrap(), None);
    environment.bus.publish(&events(2)).await.unwrap();
    let row = environment
        .database
        .one(
            "SELECT (extract(epoch FROM min(published_at)) * 1000000)::bigint, \
        min(published_at) BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() FROM chunk_sync.bus",
        )
        .await;
    assert_eq!(environment.bus.oldest_at().await.unwrap(), Some(Time::from_micros(row.get(0))));
    assert!(row.get::<_, bool>(1));
}

#[tokio::test]
async fn without_tables_the_error_names_the_command_that_creates_them() {
    let database = Database::fresh::<Pg15>().await;
    let bus = PostgresBus::new(Arc::new(database.records().await), MAX_BACKLOG);
    let fault = bus.prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("chunk-sync init"), "{fault}");
}

#[tokio::test]
async fn a_server_that_closes_connections_loses_no_acknowledged_event() {
    let environment = OnServer::<Pg15>::fresh().await;
    let mut published = Vec::new();
    let killer = environment.database.client().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for event in events(40) {
        if published.len() % 5 == 0 {
            killer.query(kill, &[]).await.unwrap();
        }
        published.extend(until_published(&environment.bus, &event).await);
    }
    let mut came = Vec::new();
    while came.len() < published.len() {
        came.extend(environment.bus.read(7, Duration::from_secs(1)).await.map(|some| ids(&some)).unwrap_or_default());
        killer.query(kill, &[]).await.unwrap();
    }
    came.sort_unstable();
    // An event whose answer was lost was published twice.
    came.retain(|id| published.contains(id));
    assert_eq!(came, published);
}

async fn until_published(bus: &PostgresBus, event: &Event) -> Vec<EntryId> {
    loop {
        if let Ok(ids) = bus.publish(std::slice::from_ref(event)).await {
            return ids;
        }
    }
}

/// A pool of one connection: no call waits for another call of the same process.
#[tokio::test]
async fn one_connection_suffices() {
    let database = Database::fresh::<Pg15>().await;
    database.prepared().await;
    let config = PostgresConfig { pool_size: 1, ..database.config() };
    let records = Arc::new(PostgresRecords::connect(config).await.unwrap());
    let bus = Arc::new(PostgresBus::new(Arc::clone(&records), MAX_BACKLOG));
    let reader = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { bus.read(9, Duration::from_secs(20)).await.unwrap() }
    });
    bus.publish(&events(3)).await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(10), reader).await.expect("the reader did not wake").unwrap();
    assert!(!came.is_empty());
    assert!(records.rows(None, 1).await.unwrap().rows.is_empty(), "the connection is free again");
}

#[tokio::test]
async fn a_long_entry_is_dead_lettered_in_the_server() {
    let environment = OnServer::<Pg15>::fresh().await;
    // It compresses well, so its stored size is far below its length.
    let long = environment.add(vec![(b"chunk".to_vec(), vec![b'x'; 70 << 20])]).await;
    let sound = environment.add(vec![(b"chunk".to_vec(), b"y".to_vec())]).await;
    environment.bus.begin(Handover::Silent).await.unwrap();
    assert_eq!(ids(&environment.bus.read(10, SHORT).await.unwrap()), [sound]);
    let letters = environment.bus.dead(None, 10).await.unwrap();
    let text = |name| letters[0].text(name).unwrap().into_owned();
    assert_eq!((text("stream_id"), text("field"), text("chunk").len()), (long.to_string(), "event".to_owned(), 1024));
    assert!(text("error").starts_with("73400325 bytes"), "{}", text("error"));
    assert_eq!(environment.bus.depth().await.unwrap().dead, 1);
}

#[tokio::test]
async fn a_bus_is_bounded_in_bytes() {
    let database = Database::fresh::<Pg15>().await;
    let records = Arc::new(database.prepared().await);
    let bus = PostgresBus::new(records, MaxBacklog { bytes: 100_000, ..MAX_BACKLOG });
    chunk_sync_testkit::bus::a_bound_in_bytes_holds(&bus).await;
}
