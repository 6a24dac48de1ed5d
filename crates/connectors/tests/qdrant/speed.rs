//! A throughput measurement, ignored by default.

use std::sync::Arc;
use std::time::Instant;

use chunk_sync_engine::ports::{Projection, Write};
use chunk_sync_model::State;
use chunk_sync_testkit::states::{states, version, write};

use crate::fixture::{Vectors, written};

const POINTS: usize = 20_480;
const BATCH: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn points_a_second() {
    let with_sparse = states(POINTS);
    // Without sparse vectors too: the engine walks whole posting lists, which are long when many chunks share a word.
    let dense_alone: Vec<Arc<State>> = with_sparse.iter().map(without_sparse).collect();
    for (what, states) in [("dense and sparse", with_sparse), ("dense alone", dense_alone)] {
        for server in ["1.18.1", "1.15.5"] {
            let vectors = Vectors::of(server).await;
            let writes: Vec<_> = states.iter().zip(10..).map(|(state, number)| write(state, number)).collect();
            let call = |at_once| format!("{what} on {server}, {at_once} a call");
            measure(&call(BATCH), &vectors, &writes[..POINTS / 2], BATCH).await;
            measure(&call(4 * BATCH), &vectors, &writes[POINTS / 2..], 4 * BATCH).await;
            let later = version(1 << 40);
            let payload: Vec<_> = writes.iter().map(|old| Write { version: later, ..old.clone() }).collect();
            measure(&format!("{}, payload alone", call(BATCH)), &vectors, &payload[..POINTS / 4], BATCH).await;
            scan(&vectors).await;
        }
    }
}

fn without_sparse(state: &Arc<State>) -> Arc<State> {
    let mut state = State::clone(state);
    state.chunk.embeddings.sparse = None;
    Arc::new(state)
}

async fn measure(what: &str, vectors: &Vectors, writes: &[Write], at_once: usize) {
    let begun = Instant::now();
    for batch in writes.chunks(at_once) {
        written(&vectors.store, batch).await;
    }
    println!("{what}: {:.0} points/s", writes.len() as f64 / begun.elapsed().as_secs_f64());
}

async fn scan(vectors: &Vectors) {
    let begun = Instant::now();
    let (mut after, mut read) = (None, 0);
    loop {
        let page = vectors.store.scan_fingerprints(after, 1000).await.unwrap();
        after = page.last().map(|seen| seen.id).or(after);
        read += page.len();
        if page.len() < 1000 {
            break;
        }
    }
    assert_eq!(read, POINTS);
    println!("scan: {:.0} points/s", read as f64 / begun.elapsed().as_secs_f64());
}
