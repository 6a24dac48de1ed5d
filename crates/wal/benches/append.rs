//! How long the log takes to append a batch of operations of 1 KiB. In memory: encoding and checksum. On disk: also one
//! write and one sync for the batch.
#![allow(clippy::unwrap_used, reason = "a benchmark on a sound disk")]

use std::sync::Arc;

use chunk_sync_wal::testing::CrashDisk;
use chunk_sync_wal::{Options, Pending, Wal};
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;

const BATCHES: [usize; 3] = [1, 32, 256];

fn main() {
    divan::main();
}

/// Ids of operations, each with its operation.
fn operations(count: usize) -> Vec<(String, String)> {
    let operation = |number| format!(r#"{{"event_id":"event-{number}","content":"{}"}}"#, "text ".repeat(200));
    (0..count).map(|number| (format!("event-{number}-1"), operation(number))).collect()
}

fn pending(operations: &[(String, String)]) -> Vec<Pending<'_>> {
    operations.iter().map(|(id, operation)| Pending::new(id, operation)).collect()
}

#[divan::bench(args = BATCHES)]
fn append_in_memory(bencher: Bencher<'_, '_>, count: usize) {
    let operations = operations(count);
    let pending = pending(&operations);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| Wal::open_on(Arc::new(CrashDisk::default()), Options::default()).unwrap().0)
        .bench_local_values(|mut log| log.append(&pending, Timestamp::UNIX_EPOCH).unwrap());
}

#[divan::bench(args = BATCHES)]
fn append_on_disk(bencher: Bencher<'_, '_>, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _recovery) = Wal::open(dir.path(), Options::default()).unwrap();
    let operations = operations(count);
    let pending = pending(&operations);
    bencher.counter(ItemsCount::new(count)).bench_local(|| log.append(&pending, Timestamp::UNIX_EPOCH).unwrap());
}
