//! The slot that remembers how far capture has come is lost, moved, or another server's: what was written into rows
//! meanwhile is carried all the same, by itself.

use std::time::Instant;

use crate::oracle::Oracle;
use crate::place::{Place, Run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_slot_has_missed_is_carried() {
    let place = Place::new().await;
    place.fine(&["init"]);
    let mut oracle = Oracle::default();
    let run = place.go_on(&[], &[]);
    oracle.load(&place).await;
    oracle.assert_everywhere(&place).await;
    assert_eq!(place.gaps().await, 0, "a first start has missed nothing");
    let slot = format!("'chunk_sync_slot_{}'", place.name);
    let drop = format!("SELECT pg_drop_replication_slot({slot})");
    // What was not read yet is not to be had any more.
    let advance = format!("SELECT pg_replication_slot_advance({slot}, pg_current_wal_lsn())");
    // It had written more than this one.
    let other = "UPDATE chunk_sync.positions SET system = '1', position = 'FFFFFFFF/0'";
    let mut table = vec![format!("{:28} {:>14}", "while nobody captures", "seconds after")];
    let mut run = Some(run);
    for (what, statements) in [
        ("the slot is dropped", vec![drop.clone()]),
        ("the slot is moved on", vec![advance.clone()]),
        ("the server is another", vec![advance.clone(), other.to_owned()]),
        ("a standby was promoted", vec![advance, "UPDATE chunk_sync.positions SET timeline = 0".to_owned()]),
    ] {
        run.take().map(Run::terminate);
        oracle.load_rows(&place).await;
        for statement in statements {
            place.sql(&statement).await;
        }
        let began = Instant::now();
        run = Some(place.go_on(&[], &[]));
        oracle.assert_everywhere(&place).await;
        table.push(format!("{what:28} {:>14.1}", began.elapsed().as_secs_f64()));
        place.visible("the end of the gap", || async { place.gaps().await == 0 }).await;
        let ahead = "SELECT count(*) FROM chunk_sync.positions WHERE position > pg_current_wal_lsn()";
        assert_eq!(place.count(ahead).await, 0, "{what}: what was noted of another server is of no use here");
    }
    let began = Instant::now();
    // Whoever captures comes back at once, so it may take several attempts.
    let drop = format!(
        "DO $$ BEGIN LOOP BEGIN
             PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {slot} AND active;
             PERFORM pg_drop_replication_slot({slot}); EXIT;
         EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END; END LOOP; END $$"
    );
    place.sql(&drop).await;
    oracle.load_rows(&place).await;
    oracle.assert_everywhere(&place).await;
    table.push(format!("(it is dropped while one does {:>12.1})", began.elapsed().as_secs_f64()));
    run.take().map(Run::terminate);
    eprintln!("{}", table.join("\n"));
}
