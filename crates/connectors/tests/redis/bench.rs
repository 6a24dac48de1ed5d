//! Throughput of the bus compared with a bare consumer that only reads and acknowledges, in the same run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_engine::ports::{Bus, Projection};
use chunk_sync_engine::{Ports, Service, Settings};
use redis::Value;
use uuid::Uuid;

use super::free::{Free, FreeRecords};
use super::surroundings::{SHORT, bus, config, shared_url, stranger};
use chunk_sync_connectors::redis::RedisConfig;
use chunk_sync_model::{Event, Limits, Target};
use chunk_sync_testkit::memory::MemoryRecords;

const COUNT: usize = 40_000;

/// Run it in the release profile:
/// `cargo test --release -p chunk-sync-connectors --features live --test redis speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn speed_beside_a_bare_consumer() {
    let sent = events_of_1_kib();
    for batch in [256, 500] {
        for round in 0..3 {
            let config = RedisConfig { max_backlog: 1 << 30, ..config(&shared_url()) };
            let bus = bus(&config).await;
            let published = per_second(async {
                for part in sent.chunks(batch) {
                    bus.publish(part).await.unwrap();
                }
            });
            let published = published.await;
            let carried = per_second(async {
                let mut count = 0;
                while count < COUNT {
                    let read = bus.read(batch, SHORT).await.unwrap();
                    count += read.len();
                    bus.acknowledge(&super::surroundings::ids(&read)).await.unwrap();
                }
            });
            let carried = carried.await;
            let bare = per_second(bare_consumer(&config, batch)).await;
            eprintln!(
                "batch {batch} round {round}: publish {published:.0}/s, read + acknowledge {carried:.0}/s, bare {bare:.0}/s: \
                 {:.0} %",
                100.0 * carried / bare
            );
        }
    }
}

async fn per_second(work: impl Future<Output = ()>) -> f64 {
    let started = Instant::now();
    work.await;
    COUNT as f64 / started.elapsed().max(Duration::from_millis(1)).as_secs_f64()
}

/// Consumes with another group on the same stream, so that both read the same entries.
async fn bare_consumer(config: &RedisConfig, batch: usize) {
    let mut connection = stranger(&shared_url()).await;
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(&config.stream).arg("bare").arg(0).exec_async(&mut connection).await.unwrap();
    let mut count = 0;
    while count < COUNT {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("bare").arg("c").arg("COUNT").arg(batch).arg("STREAMS").arg(&config.stream).arg(">");
        let Value::Array(mut streams) = read.query_async(&mut connection).await.unwrap() else {
            panic!("XREADGROUP returned no stream")
        };
        let Some(Value::Array(mut stream)) = streams.pop() else { panic!("no stream") };
        let Some(Value::Array(entries)) = stream.pop() else { panic!("no entries") };
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

fn events_of_1_kib() -> Vec<Event> {
    let event = |i: usize| {
        let json = format!(
            r#"{{"id":"{}","system_origin":"claude","content":"{}","chunk_type":"text","source":{{"type":"api"}},
            "location":{{"start_char":0,"end_char":600,"chunk_index":{i}}},"organization":{{}},
            "metadata":{{"created_at":"2025-01-01T00:00:00Z","updated_at":"2025-01-01T00:00:00Z"}}}}"#,
            Uuid::new_v4(),
            "text ".repeat(120)
        );
        Event::from_json(&json, &Limits::default()).unwrap()
    };
    let events: Vec<_> = (0..COUNT).map(event).collect();
    let bytes: usize = events[0].to_fields().iter().map(|(name, value)| name.len() + value.len()).sum();
    eprintln!("{bytes} bytes per event");
    events
}

/// Throughput of the whole service (bus, log, merge, stores without cost, acknowledgement) compared with the bare consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn speed_of_the_service_beside_a_bare_consumer() {
    let sent = events_of_1_kib();
    for round in 0..3 {
        let config = RedisConfig { max_backlog: 1 << 30, ..config(&shared_url()) };
        let bus = bus(&config).await;
        for part in sent.chunks(500) {
            bus.publish(part).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path());
        let stores: Vec<Arc<dyn Projection>> = vec![Arc::new(Free(Target::Qdrant)), Arc::new(Free(Target::Neo4j))];
        let memory = MemoryRecords::default();
        let (lease, waiting) = (Arc::new(memory.lease("bench")), Arc::new(memory));
        let ports = Ports::new(bus.clone(), Arc::new(FreeRecords), waiting, lease, stores);
        let carried = per_second(async {
            let service = Service::start(ports, settings).await.unwrap();
            service.until_idle().await.unwrap();
            service.stop().await.unwrap();
        });
        let carried = carried.await;
        let bare = per_second(bare_consumer(&config, 256)).await;
        eprintln!(
            "round {round}: {carried:.0} events/s through the service, bare {bare:.0}/s: {:.0} %",
            100.0 * carried / bare
        );
    }
}
