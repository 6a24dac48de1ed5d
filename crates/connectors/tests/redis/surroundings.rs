//! Streams of a test's own, processes that can be killed, and events that say which they are.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Delivery, EntryId, Fault};
use chunk_sync_model::event::{Body, EventType, Fields};
use chunk_sync_model::{Event, Origin, Target, Time};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const SHORT: Duration = Duration::from_millis(50);
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The server that tests share.
pub(crate) fn shared_url() -> String {
    std::env::var("CHUNK_SYNC_TEST_REDIS_URL").expect(
        "CHUNK_SYNC_TEST_REDIS_URL has to name a Redis 7 for tests, such as redis://127.0.0.1:6379/0 \
         (start one: redis-server --port 6379 --bind 127.0.0.1 --appendonly yes)",
    )
}

/// A configuration with streams that no other test has, and little patience with the dead.
pub(crate) fn config(url: &str) -> RedisConfig {
    let name = format!("test:{}", Uuid::new_v4().simple());
    RedisConfig {
        stream: format!("{name}:stream"),
        dead_stream: format!("{name}:dead"),
        alive_for: Duration::from_millis(1_000),
        claim_after: Duration::from_millis(200),
        ..RedisConfig::new(url.into())
    }
}

/// Another process on the same streams.
pub(crate) fn another(config: &RedisConfig) -> RedisConfig {
    RedisConfig { consumer: format!("worker-{}", Uuid::new_v4().simple()), ..config.clone() }
}

pub(crate) async fn bus(config: &RedisConfig) -> Arc<RedisBus> {
    let bus = Arc::new(RedisBus::new(&another(config)).unwrap());
    bus.prepare().await.unwrap();
    bus
}

/// A connection for what a stranger does to the streams.
pub(crate) async fn stranger(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Sends one command as a stranger.
pub(crate) async fn send<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut stranger(url).await).await.unwrap()
}

/// An event of a chunk; its id tells it from others.
pub(crate) fn event_of(chunk: Uuid) -> Event {
    Event {
        event_id: Uuid::new_v4(),
        kind: EventType::Delete,
        source: Origin::Claude,
        writer: Origin::Claude.into(),
        targets: Target::ALL.to_vec(),
        body: Body::Id(chunk),
        timestamp: Time::from_micros(1_700_000_000_000_000),
        retry_count: 0,
        unchanged: Vec::new(),
        set: Vec::new(),
        position: None,
    }
}

pub(crate) fn events(count: usize) -> Vec<Event> {
    (0..count).map(|_| event_of(Uuid::new_v4())).collect()
}

pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<EntryId> {
    deliveries.iter().map(|delivery| delivery.id).collect()
}

pub(crate) fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| &**value)
}

/// Reads until `count` entries have come.
pub(crate) async fn read_all(bus: &RedisBus, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let reading = async {
        while all.len() < count {
            all.extend(bus.read(100, Duration::from_millis(500)).await.unwrap());
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("the entries did not come");
    all
}

/// A process: its tasks are its own, and killed it says nothing to anybody.
pub(crate) struct Process {
    runtime: Option<Runtime>,
    pub(crate) bus: Arc<RedisBus>,
}

impl Process {
    pub(crate) fn start(config: &RedisConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime: Some(runtime), bus: Arc::new(RedisBus::new(&another(config)).unwrap()) }
    }

    /// Runs a call of the bus within the process.
    pub(crate) fn start_call<T, F>(&self, call: impl FnOnce(Arc<RedisBus>) -> F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.runtime.as_ref().unwrap().spawn(call(Arc::clone(&self.bus)))
    }

    pub(crate) fn start_read(&self, max: usize, wait: Duration) -> JoinHandle<Result<Vec<Delivery>, Fault>> {
        self.start_call(move |bus| async move { bus.read(max, wait).await })
    }

    pub(crate) async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        self.start_read(max, wait).await.unwrap()
    }

    pub(crate) async fn acknowledge(&self, ids: Vec<EntryId>) -> Result<(), Fault> {
        self.start_call(move |bus| async move { bus.acknowledge(&ids).await }).await.unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
