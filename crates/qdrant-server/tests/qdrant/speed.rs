//! How fast it goes: a measurement, to be asked for by name.

use std::time::Instant;

use chunk_sync_engine::ports::{Store, Write};
use chunk_sync_testkit::states::{states, write};

use crate::fixture::{Vectors, written};

const POINTS: usize = 20_480;
const BATCH: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn points_a_second() {
    for version in ["1.18.1", "1.15.5"] {
        let vectors = Vectors::of(version).await;
        let states = states(POINTS);
        let writes: Vec<_> = states.iter().enumerate().map(|(i, state)| write(state, 10 + i as u64)).collect();
        measure(version, "new points", &vectors, &writes).await;
        let again: Vec<_> =
            writes.iter().map(|old| Write { version: write(&states[0], 1 << 40).version, ..old.clone() }).collect();
        measure(version, "payload alone", &vectors, &again).await;
        let begun = Instant::now();
        let (mut after, mut read) = (None, 0);
        loop {
            let page = vectors.store.scan(after, 1000).await.unwrap();
            after = page.last().map(|seen| seen.id).or(after);
            read += page.len();
            if page.len() < 1000 {
                break;
            }
        }
        assert_eq!(read, POINTS);
        println!("{version}: scan {:.0} points/s", read as f64 / begun.elapsed().as_secs_f64());
    }
}

async fn measure(version: &str, what: &str, vectors: &Vectors, writes: &[Write]) {
    let begun = Instant::now();
    for batch in writes.chunks(BATCH) {
        written(&vectors.store, batch).await;
    }
    println!("{version}: {what}, {BATCH} a batch: {:.0} points/s", writes.len() as f64 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    vectors.store.apply(writes).await;
    println!("{version}: the same again: {:.0} points/s", writes.len() as f64 / begun.elapsed().as_secs_f64());
}
