//! The replication slot is dropped, advanced, or belongs to another server: rows that were written meanwhile are captured
//! all the same, without an operator.

use std::time::Instant;

use crate::environment::{Environment, Run};
use crate::oracle::Oracle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_lost_slot_has_missed_are_captured() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let mut oracle = Oracle::default();
    let run = environment.go_on(&[], &[]);
    oracle.load(&environment).await;
    oracle.assert_everywhere(&environment).await;
    assert_eq!(environment.gaps().await, 0, "the first start has no gap");
    let slot = format!("'chunk_sync_slot_{}'", environment.name);
    let drop = format!("SELECT pg_drop_replication_slot({slot})");
    // Changes that were not read yet are lost to the slot.
    let advance = format!("SELECT pg_replication_slot_advance({slot}, pg_current_wal_lsn())");
    // The other server had a higher position.
    let other = "UPDATE chunk_sync.positions SET system = '1', position = 'FFFFFFFF/0'";
    let mut table = vec![format!("{:28} {:>14}", "while capture is stopped", "seconds after")];
    let mut run = Some(run);
    for (what, statements) in [
        ("the slot is dropped", vec![drop.clone()]),
        ("the slot is advanced", vec![advance.clone()]),
        ("the server is another", vec![advance.clone(), other.to_owned()]),
        ("a standby was promoted", vec![advance, "UPDATE chunk_sync.positions SET timeline = 0".to_owned()]),
    ] {
        run.take().map(Run::terminate);
        oracle.load_rows(&environment).await;
        for statement in statements {
            environment.sql(&statement).await;
        }
        let began = Instant::now();
        run = Some(environment.go_on(&[], &[]));
        delete_what_is_absent(&environment).await;
        oracle.assert_everywhere(&environment).await;
        table.push(format!("{what:28} {:>14.1}", began.elapsed().as_secs_f64()));
        environment.visible("the end of the gap", || async { environment.gaps().await == 0 }).await;
        let ahead = "SELECT count(*) FROM chunk_sync.positions WHERE position > pg_current_wal_lsn()";
        assert_eq!(environment.count(ahead).await, 0, "{what}: a position of another server must not be kept");
    }
    let began = Instant::now();
    // The capturing process reconnects at once, so dropping the slot may take several attempts.
    let drop = format!(
        "DO $$ BEGIN LOOP BEGIN
             PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {slot} AND active;
             PERFORM pg_drop_replication_slot({slot}); EXIT;
         EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END; END LOOP; END $$"
    );
    environment.sql(&drop).await;
    oracle.load_rows(&environment).await;
    delete_what_is_absent(&environment).await;
    oracle.assert_everywhere(&environment).await;
    table.push(format!("(it is dropped during capture {:>12.1})", began.elapsed().as_secs_f64()));
    run.take().map(Run::terminate);
    eprintln!("{}", table.join("\n"));
}

/// Deletes the chunks whose rows were deleted in a gap: the log does not show their deletion, so an operator decides.
async fn delete_what_is_absent(environment: &Environment) {
    let deleted = || async {
        environment.program(&["verify", "--repair", "--absent", "delete"]).output().unwrap();
        i64::try_from(environment.nodes().await) == Ok(environment.count("SELECT count(*) FROM unified.chunks").await)
    };
    environment.visible("the deletion of absent rows", deleted).await;
}
