//! An entity that thousands of chunks contain: a change of one of these chunks becomes visible within seconds, and so does a
//! change of any other chunk beside it.

use std::time::{Duration, Instant};

use neo4rs::query;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bounds::assert_bounded;
use crate::environment::Environment;
use crate::field::fields;

/// The number of chunks that contain the hub, unless `CHUNK_SYNC_TEST_HUB` names another one.
const SUPPORTERS: &str = "2000";

/// How long a change may take to become visible, also beside changes of the hub.
const VISIBLE_WITHIN: Duration = Duration::from_secs(3);

/// A chunk with one entity.
fn chunk(number: usize, entity: &str, name: &str) -> Value {
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("supporter {number}").as_bytes()),
        "system_origin": "claude", "content": format!("text of chunk {number}"), "chunk_type": "text",
        "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 }, "organization": {},
        "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": jiff::Timestamp::now().to_string() },
        "graph": { "entities": [
            { "id": entity, "type": "concept", "name": name, "confidence": 0.5, "source_positions": [] },
        ] },
    })
}

/// Publishes the chunks that contain the hub, and waits for their nodes.
async fn publish_supporters(environment: &Environment, supporters: usize) {
    let numbers: Vec<usize> = (0..supporters).collect();
    for numbers in numbers.chunks(500) {
        let mut entries = redis::pipe();
        for number in numbers {
            let add = entries.cmd("XADD").arg(format!("{}:stream", environment.name)).arg("*");
            add.arg(fields("create", &chunk(*number, "hub", "the hub"))).ignore();
        }
        entries.query_async::<()>(&mut environment.redis.clone()).await.unwrap();
    }
    let mut left = supporters as u64;
    while left > 0 {
        let before = left;
        let left_now = async || supporters as u64 - environment.nodes().await;
        environment.visible("further chunks of the hub", || async { left_now().await < before }).await;
        left = left_now().await;
    }
}

async fn is_named(environment: &Environment, entity: &str, name: &str) -> bool {
    let read =
        query("MATCH (e:Entity {id: $id}) RETURN e.name = $name AS named").param("id", entity).param("name", name);
    let mut rows = environment.graph.execute(read).await.unwrap();
    rows.next().await.unwrap().is_some_and(|row| row.get("named").unwrap())
}

/// Renames the entity in a chunk, and returns how long that takes to become visible.
async fn rename(environment: &Environment, number: usize, entity: &str, name: &str) -> Duration {
    let began = Instant::now();
    environment.add(&fields("update", &chunk(number, entity, name))).await;
    environment.visible(name, || is_named(environment, entity, name)).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_hub_is_visible_within_seconds_and_delays_no_other() {
    let supporters = std::env::var("CHUNK_SYNC_TEST_HUB").unwrap_or_else(|_| SUPPORTERS.to_owned());
    let supporters: usize = supporters.parse().unwrap();
    assert!(supporters >= 200, "CHUNK_SYNC_TEST_HUB: chunks 100 to 199 are changed");
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let run = environment.start();
    publish_supporters(&environment, supporters).await;
    let (mut alone, mut of_hub, mut beside) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for turn in 0..20 {
        let other = supporters + turn;
        alone = alone.max(rename(&environment, other, &format!("other {turn}"), "alone").await);
        of_hub = of_hub.max(rename(&environment, turn, "hub", &format!("the hub, turn {turn}")).await);
        // In one batch with changes of many chunks of the hub.
        for number in 100..200 {
            environment.add(&fields("update", &chunk(number, "hub", &format!("the hub, {turn} {number}")))).await;
        }
        beside = beside.max(rename(&environment, other, &format!("other {turn}"), "beside").await);
    }
    eprintln!(
        "{supporters} chunks with one entity, at most: another chunk {alone:?}, the entity {of_hub:?}, another chunk \
         beside 100 changes of the entity {beside:?}"
    );
    for took in [alone, of_hub, beside] {
        assert!(took < VISIBLE_WITHIN, "{took:?}");
    }
    environment.settled().await;
    assert_eq!(environment.dead_count().await, 0);
    assert_bounded(&format!("{supporters} chunks with one entity"), run);
    environment.assert_equal(supporters as u64 + 20);
}
