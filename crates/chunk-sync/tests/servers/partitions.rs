//! A partitioned table: its partitions are truncated and attached while the service runs.

use crate::environment::Environment;

const PARTED: &str = "CREATE TABLE unified.parted (LIKE unified.chunks INCLUDING DEFAULTS, PRIMARY KEY (id))
        PARTITION BY RANGE (id);
    CREATE TABLE unified.low PARTITION OF unified.parted
        FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
    CREATE TABLE unified.high PARTITION OF unified.parted
        FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO ('ffffffff-ffff-ffff-ffff-000000000000');
    DROP TABLE unified.chunks;
    ALTER TABLE unified.parted RENAME TO chunks";

/// Ids that no generated chunk has.
const LAST: &str = "CREATE TABLE unified.last (LIKE unified.chunks INCLUDING DEFAULTS);
    INSERT INTO unified.last (id, content, chunk_type, created_at, updated_at)
        SELECT ('ffffffff-ffff-ffff-ffff-00000000000' || n)::uuid, 'written before it was attached', 'text', now(), now()
        FROM generate_series(1, 3) n;
    ALTER TABLE unified.chunks ATTACH PARTITION unified.last
        FOR VALUES FROM ('ffffffff-ffff-ffff-ffff-000000000000') TO (MAXVALUE)";

/// An installation on a partitioned table with 40 chunks.
async fn parted() -> Environment {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.sql(PARTED).await;
    environment.fine(&["init", "--adopt"]);
    environment.publish(40);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(40);
    environment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_partition_deletes_nothing_unless_the_operator_decides() {
    let environment = parted().await;
    environment.sql(LAST).await;
    environment.fine(&["backfill"]);
    environment.fine(&["run", "--drain"]);
    environment.assert_equal(43);
    let run = environment.go_on(&[], &[("CHUNK_SYNC__SCRUB__INTERVAL", "1s")]);
    environment.visible("capture", || environment.captured_by_somebody()).await;
    // Fewer rows than a comparison may delete.
    environment.sql("TRUNCATE unified.last").await;
    // No captured change states that they were deleted, so none of them ever becomes a candidate.
    let noted = "SELECT count(*) FROM chunk_sync.absent WHERE cause = 'compared'";
    environment.visible("the notes", || async { environment.count(noted).await == 3 }).await;
    for _ in 0..2 {
        environment.sql("UPDATE chunk_sync.absent SET noted_at = noted_at - interval '11 minutes'").await;
        environment.found(&["verify", "--repair", "--json"]);
    }
    assert_eq!((environment.nodes().await, environment.count(noted).await), (43, 3));
    environment.settled().await;
    run.terminate();
    environment.fine(&["verify", "--repair", "--absent", "delete"]);
    environment.assert_equal(40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_partition_that_is_attached_are_carried() {
    let environment = parted().await;
    let run = environment.go_on(&[], &[("CHUNK_SYNC__SCRUB__ENABLED", "false")]);
    environment.visible("capture", || environment.captured_by_somebody()).await;
    environment.sql(LAST).await;
    let written = "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at) VALUES
        ('ffffffff-ffff-ffff-ffff-000000000004', 'written after it was attached', 'text', now(), now())";
    environment.sql(written).await;
    environment.visible("its rows", || async { environment.nodes().await == 44 }).await;
    let known = "SELECT cardinality(partitions)::bigint FROM chunk_sync.recorded_table";
    environment.visible("the partition on record", || async { environment.count(known).await == 3 }).await;
    environment.settled().await;
    run.terminate();
    environment.assert_equal(44);
}
