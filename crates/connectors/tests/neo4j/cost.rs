//! What writes cost: messages of the protocol, which do not grow with the number of chunks. Seconds depend on the machine,
//! these do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_testkit::Fixture;

use super::fixture::{Draft, Neo4j, config, delete, draft};
use super::middlebox::{Act, Server};

/// A chunk with two entities, one of which all chunks share, and a relation between them.
fn chunk(number: u128) -> Draft {
    let own = format!("e{number}");
    draft(number).entity(&own, "Own", 0.5).entity("shared", "Shared", 0.7).relation(&own, "shared", 0.9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_do_not_grow_with_the_number_of_chunks() {
    let _neo4j = Neo4j::fresh().await;
    let messages = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&messages);
    let rule = move |_: u8, _: &[u8]| {
        counted.fetch_add(1, Ordering::Relaxed);
        Act::Pass
    };
    let proxy = Server::before(config().url, rule).await;
    let store = Neo4jStore::new(&Neo4jConfig { url: format!("bolt://{proxy}"), ..config() }).unwrap();
    store.check().await.unwrap();
    for (rows, first) in [(1, 1000), (256, 2000)] {
        for version in [1, 2] {
            let writes: Vec<Write> = (first..first + rows).map(|number| chunk(number).at(version)).collect();
            messages.store(0, Ordering::Relaxed);
            assert!(store.apply(&writes).await.iter().all(|applied| matches!(applied, Applied::Written)));
            let sent = messages.load(Ordering::Relaxed);
            assert!(sent <= 40, "{rows} rows at version {version}: {sent} messages");
        }
    }
}

/// A chunk about the hub: what several chunks support depends on how many there are.
fn supporter(number: u128, name: &str, confidence: f64) -> Draft {
    let own = format!("e{number}");
    draft(number).entity("hub", name, confidence).entity(&own, "Own", 0.5).relation(&own, "hub", 0.9)
}

/// How long a change of one supporter takes: the median of some.
async fn change(neo4j: &Neo4j, first: u128) -> Duration {
    let mut took = Vec::new();
    for number in first..first + 9 {
        let began = Instant::now();
        neo4j.write(&[supporter(number, "Changed", 0.8).at(10)]).await;
        neo4j.write(&[delete(number, 11)]).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_one_supporter_of_thousands_takes_a_bounded_time() {
    let supporters = std::env::var("CHUNK_SYNC_TEST_SUPPORTERS").map_or(10_000, |number| number.parse().unwrap());
    let neo4j = Neo4j::fresh().await;
    neo4j.write(&(1..=20).map(|number| supporter(number, "Hub", 0.5).at(1)).collect::<Vec<_>>()).await;
    let few = change(&neo4j, 1).await;
    let began = Instant::now();
    let numbers: Vec<u128> = (100..100 + supporters).collect();
    for some in numbers.chunks(1_000) {
        neo4j.write(&some.iter().map(|number| supporter(*number, "Hub", 0.5).at(1)).collect::<Vec<_>>()).await;
    }
    let loaded = began.elapsed();
    let many = change(&neo4j, 100).await;
    let measured = format!("{supporters} supporters: loaded in {loaded:?}; a change: {many:?}, of 20: {few:?}");
    assert!(many < Duration::from_secs(1), "{measured}");
    let supports = "MATCH (:Chunk)-[s:CONTAINS_ENTITY]->(:Entity {id: 'hub'}) RETURN toString(count(s)) AS value";
    assert_eq!(neo4j.texts(supports).await, [(supporters - 9 + 11).to_string()]);
}
