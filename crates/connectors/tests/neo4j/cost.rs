//! What writes cost: messages of the protocol, which do not grow with the number of chunks. Seconds depend on the machine,
//! these do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunk_sync_connectors::neo4j::{Neo4jConfig, Neo4jStore};
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_testkit::Fixture;

use super::fixture::{Draft, Neo4j, config, draft};
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
