//! Capture from a partitioned table, also of partitions that are attached while the log is open.

use chunk_sync_connectors::postgres::{CaptureConfig, Plugin, Publish};
use chunk_sync_engine::ports::{Capture, FaultClass, Gap, Touch};
use uuid::Uuid;

use crate::capture::{Environment, id, touched};
use crate::fixture::{Database, Pg15, Pg18, Server};

/// A partitioned table with a name that the options of `wal2json` must escape; the ids from `8…` on have no partition.
const PARTED: &str = "CREATE TABLE unified.parted (LIKE unified.chunks INCLUDING DEFAULTS, PRIMARY KEY (id))
        PARTITION BY RANGE (id);
    CREATE TABLE unified.\"part, 0\" PARTITION OF unified.parted FOR VALUES FROM (MINVALUE) TO ('40000000-0000-0000-0000-000000000000');
    CREATE TABLE unified.part_1 PARTITION OF unified.parted
        FOR VALUES FROM ('40000000-0000-0000-0000-000000000000') TO ('80000000-0000-0000-0000-000000000000');
    DROP TABLE unified.chunks; ALTER TABLE unified.parted RENAME TO chunks";

/// A third partition, with a row that was written before it is one.
const ATTACHED: &str = "CREATE TABLE unified.part_2 (LIKE unified.chunks INCLUDING DEFAULTS);
    INSERT INTO unified.part_2 (id, content) VALUES ('90000000-0000-0000-0000-000000000001', 'of another program');
    ALTER TABLE unified.chunks ATTACH PARTITION unified.part_2
        FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE)";

/// An id in the partition of that number.
fn of(partition: u128, number: u128) -> Uuid {
    id((partition << 126) + number)
}

async fn insert(environment: &Environment, id: Uuid) {
    let insert = format!("INSERT INTO unified.chunks (id, content) VALUES ('{id}', 'of another program')");
    environment.database.meddle(&insert).await;
}

async fn parted<S: Server>(plugin: Plugin) -> Environment {
    let database = Database::fresh::<S>().await;
    database.prepared().await;
    database.meddle(PARTED).await;
    let url = database.url.clone();
    Environment::with(database, plugin, Publish::Least, CaptureConfig::SILENCE, &url).await
}

/// Rows of a partition that is attached while the log is open are captured, or there is a gap.
async fn a_partition_is_attached<S: Server>(plugin: Plugin, seen_at_once: bool) {
    let environment = parted::<S>(plugin).await;
    let mut opened = environment.open().await;
    environment.capture.heartbeat().await.unwrap();
    insert(&environment, of(0, 1)).await;
    insert(&environment, of(1, 1)).await;
    assert_eq!(touched(&mut *opened.source, 2).await.len(), 2);
    environment.database.meddle(ATTACHED).await;
    for row in [of(2, 2), of(0, 2)] {
        insert(&environment, row).await;
    }
    let seen: Vec<_> = touched(&mut *opened.source, 1 + usize::from(seen_at_once)).await;
    let rows: Vec<_> = seen.into_iter().flat_map(|captured| captured.rows).collect();
    let all = [(of(2, 2), Touch::Inserted), (of(0, 2), Touch::Inserted)];
    assert_eq!(rows, all[usize::from(!seen_at_once)..]);
    let fault = environment.capture.heartbeat().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    assert!(fault.message.contains("its partitions are others"), "{fault}");
    drop(opened);
    let mut opened = environment.open().await;
    assert_eq!(opened.gap, (!seen_at_once).then_some(Gap::Unpublished));
    insert(&environment, of(2, 3)).await;
    // What was not confirmed comes first. wal2json reads the partition now, also what was written before it was attached.
    let seen = touched(&mut *opened.source, 5 + usize::from(!seen_at_once)).await;
    assert_eq!(seen.last().unwrap().rows, [(of(2, 3), Touch::Inserted)]);
    environment.capture.heartbeat().await.unwrap();
    opened.positions.close_gap().await.unwrap();
    drop(opened);
    assert_eq!(environment.open().await.gap, None);
    environment.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_of_an_attached_partition_is_missed_by_pgoutput() {
    a_partition_is_attached::<Pg18>(Plugin::Pgoutput, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_an_attached_partition_that_are_missed_by_wal2json_are_a_gap() {
    a_partition_is_attached::<Pg15>(Plugin::Wal2Json, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_attached_while_wal2json_is_not_read_is_a_gap() {
    let environment = parted::<Pg15>(Plugin::Wal2Json).await;
    drop(environment.open().await);
    environment.database.meddle(ATTACHED).await;
    assert_eq!(environment.open().await.gap, Some(Gap::Unpublished));
    environment.leave().await;
}
