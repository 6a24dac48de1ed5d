//! Separate streams per test, buses that stand for processes, and events with distinct chunk ids.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Bus, Delivery, EntryId, Handover};
use chunk_sync_model::event::{Body, EventType, Fields};
use chunk_sync_model::{Event, Origin, Target, Time};
use uuid::Uuid;

/// A busy machine may answer late.
fn patient() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(60)))
}

pub(crate) const SHORT: Duration = Duration::from_millis(50);
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The server that tests share.
pub(crate) fn shared_url() -> String {
    std::env::var("CHUNK_SYNC_TEST_REDIS_URL").expect(
        "CHUNK_SYNC_TEST_REDIS_URL is not set; set it to a Redis 7 for tests, such as redis://127.0.0.1:6379/0 \
         (start one: redis-server --port 6379 --bind 127.0.0.1 --appendonly yes)",
    )
}

/// A configuration with streams that no other test uses.
pub(crate) fn config(url: &str) -> RedisConfig {
    let name = format!("test:{}", Uuid::new_v4().simple());
    RedisConfig {
        stream: format!("{name}:stream"),
        dead_stream: format!("{name}:dead"),
        ..RedisConfig::new(url.into())
    }
}

/// The configuration of another process on the same streams.
pub(crate) fn another(config: &RedisConfig) -> RedisConfig {
    RedisConfig { consumer: format!("worker-{}", Uuid::new_v4().simple()), ..config.clone() }
}

/// The bus of a process that is prepared and does not read.
pub(crate) async fn bus(config: &RedisConfig) -> Arc<RedisBus> {
    let bus = Arc::new(RedisBus::new(&another(config)).unwrap());
    bus.prepare().await.unwrap();
    bus
}

/// The bus of a process that starts to read after `handover` by the previous one.
pub(crate) async fn reader(config: &RedisConfig, handover: Handover) -> Arc<RedisBus> {
    let bus = bus(config).await;
    bus.begin(handover).await.unwrap();
    bus
}

/// A connection of a foreign client.
pub(crate) async fn foreign_client(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&patient()).await.unwrap()
}

/// Sends one command as a foreign client.
pub(crate) async fn send<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut foreign_client(url).await).await.unwrap()
}

/// An event that deletes `chunk`.
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

/// Reads until `count` entries have arrived.
pub(crate) async fn read_all(bus: &RedisBus, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let reading = async {
        while all.len() < count {
            all.extend(bus.read(100, Duration::from_millis(500)).await.unwrap());
        }
    };
    tokio::time::timeout(3 * LONG, reading).await.expect("the entries did not arrive within 60 s");
    all
}
