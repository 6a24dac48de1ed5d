//! What writes cost: requests, and operations, each of which the server flushes to disk. Seconds depend on the machine,
//! these do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunk_sync_connectors::qdrant::{QdrantConfig, QdrantStore};
use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_testkit::states::{delete, states, version, write};
use qdrant_client::qdrant::UpdateBatchPoints;

use crate::fixture::Vectors;
use crate::middlebox::{Act, before, decode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_one_kind_is_one_operation() {
    let vectors = Vectors::of("1.18.1").await;
    let (requests, operations) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asked, carried) = (Arc::clone(&requests), Arc::clone(&operations));
    let rule = move |path: &str, message: &[u8]| {
        asked.fetch_add(1, Ordering::Relaxed);
        if path.ends_with("/UpdateBatch") {
            carried.fetch_add(decode::<UpdateBatchPoints>(message).operations.len(), Ordering::Relaxed);
        }
        Act::Pass
    };
    let config = QdrantConfig { url: before(&vectors.config.url, rule).await, ..vectors.config.clone() };
    let store = QdrantStore::new(&config).unwrap();
    // The first call asks for the version of the server and the limits of the collection.
    store.apply(&[write(&states(1)[0], 1)]).await;
    let states = states(257);
    for (rows, states) in [(1, &states[..1]), (256, &states[1..])] {
        let new: Vec<Write> = states.iter().map(|state| write(state, 2)).collect();
        let only_payload = |state| Write { vectors_since: version(1), ..write(state, 3) };
        let payloads: Vec<Write> = states.iter().map(only_payload).collect();
        let gone: Vec<Write> = states.iter().map(|state| delete(state.chunk.id, 4)).collect();
        for (what, writes) in [("new", new), ("payload only", payloads), ("deleted", gone)] {
            let counts = || (requests.swap(0, Ordering::Relaxed), operations.swap(0, Ordering::Relaxed));
            counts();
            assert!(store.apply(&writes).await.iter().all(|applied| matches!(applied, Applied::Written)), "{what}");
            let (requests, operations) = counts();
            // A batch of the store has at most 256 points: one read and one update.
            assert!(requests <= 2 && operations == 1, "{what}, {rows}: {requests} requests, {operations} operations");
        }
    }
}
