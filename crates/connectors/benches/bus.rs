//! Queue processing on a real Redis, named by `CHUNK_SYNC_TEST_REDIS_URL`: the whole service (bus, log, merge, stores
//! without cost, acknowledgement) beside a bare consumer that only reads and acknowledges, in the same run.
//! `cargo xtask bench` runs it and reads the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement ends at the first fault")]
#![allow(clippy::print_stderr, reason = "prints the measured figures")]

#[path = "bus/free.rs"]
mod free;

use std::sync::Arc;
use std::time::Instant;

use chunk_sync_connectors::MaxBacklog;
use chunk_sync_connectors::redis::{RedisBus, RedisConfig};
use chunk_sync_engine::ports::{Applied, Bus, Projection};
use chunk_sync_engine::{Ports, Service, Settings};
use chunk_sync_model::{Event, Limits, Target};
use chunk_sync_testkit::empty::EmptyStore;
use chunk_sync_testkit::memory::MemoryRecords;
use redis::Value;
use uuid::Uuid;

use free::FreeRecords;

const EVENTS: usize = 40_000;
const ROUNDS: usize = 3;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let url = std::env::var("CHUNK_SYNC_TEST_REDIS_URL").expect("set CHUNK_SYNC_TEST_REDIS_URL to a Redis 7 for tests");
    let sent: Vec<Event> = (0..EVENTS).map(event_of_1_kib).collect();
    for round in 0..ROUNDS {
        let config = own_streams(&url);
        let bus = Arc::new(RedisBus::new(&config).unwrap());
        bus.prepare().await.unwrap();
        for part in sent.chunks(500) {
            bus.publish(part).await.unwrap();
        }
        let service = per_second(serve(bus)).await;
        let bare = per_second(bare_consumer(&url, &config)).await;
        eprintln!(
            "round {round}: {service:.0} events/s through the service, bare {bare:.0}/s: {:.0} %",
            100.0 * service / bare
        );
    }
}

fn own_streams(url: &str) -> RedisConfig {
    let name = format!("bench:{}", Uuid::new_v4().simple());
    RedisConfig {
        stream: format!("{name}:stream"),
        dead_stream: format!("{name}:dead"),
        max_backlog: MaxBacklog { entries: u64::MAX, bytes: u64::MAX },
        ..RedisConfig::new(url.into())
    }
}

fn event_of_1_kib(number: usize) -> Event {
    let json = format!(
        r#"{{"id":"{}","system_origin":"claude","content":"{}","chunk_type":"text","source":{{"type":"api"}},
        "location":{{"start_char":0,"end_char":600,"chunk_index":{number}}},"organization":{{}},
        "metadata":{{"created_at":"2025-01-01T00:00:00Z","updated_at":"2025-01-01T00:00:00Z"}}}}"#,
        Uuid::new_v4(),
        "text ".repeat(120)
    );
    Event::from_json(&json, &Limits::default()).unwrap()
}

async fn per_second(work: impl Future<Output = ()>) -> f64 {
    let began = Instant::now();
    work.await;
    EVENTS as f64 / began.elapsed().as_secs_f64()
}

async fn serve(bus: Arc<RedisBus>) {
    let dir = tempfile::tempdir().unwrap();
    let store = |target| Arc::new(EmptyStore::new(target, || Applied::Written)) as Arc<dyn Projection>;
    let stores = vec![store(Target::Qdrant), store(Target::Neo4j)];
    let memory = MemoryRecords::default();
    let (lease, waiting) = (Arc::new(memory.lease("bench")), Arc::new(memory));
    let ports = Ports::new(bus, Arc::new(FreeRecords), waiting, lease, stores);
    let service = Service::start(ports, Settings::new(dir.path())).await.unwrap();
    service.until_idle().await.unwrap();
    service.stop().await.unwrap();
}

/// Consumes with another group on the same stream, so that both read the same entries.
async fn bare_consumer(url: &str, config: &RedisConfig) {
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(&config.stream).arg("bare").arg(0).exec_async(&mut connection).await.unwrap();
    let mut count = 0;
    while count < EVENTS {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("bare").arg("c").arg("COUNT").arg(256).arg("STREAMS").arg(&config.stream).arg(">");
        let entries = entries(read.query_async(&mut connection).await.unwrap());
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(&config.stream).arg("bare");
        for entry in &entries {
            let Value::Array(parts) = entry else { panic!("no entry") };
            let Value::BulkString(id) = &parts[0] else { panic!("no id") };
            acknowledge.arg(id);
        }
        acknowledge.exec_async(&mut connection).await.unwrap();
        count += entries.len();
    }
}

/// The entries of the one stream that the server returned.
fn entries(read: Value) -> Vec<Value> {
    let Value::Array(mut streams) = read else { panic!("XREADGROUP returned no stream") };
    let Some(Value::Array(mut stream)) = streams.pop() else { panic!("no stream") };
    let Some(Value::Array(entries)) = stream.pop() else { panic!("no entries") };
    entries
}
