//! Effect of a takeover on the transactions of a suspended holder and on the connection that reads the slot.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use chunk_sync_connectors::postgres::{PostgresConfig, PostgresLease, PostgresRecords};
use chunk_sync_engine::ports::{Commit, CurrentState, Fault, Fence, Lease, MergeScope};
use chunk_sync_testkit::merging::{Merging as _, commit};
use uuid::Uuid;

use super::fixture::{Database, Pg15, Pg18};
use chunk_sync_testkit::eventually;

/// Takes the lease; repeats the read of its state until the server accepts the connection.
async fn take(lease: &PostgresLease) -> Uuid {
    let token = Uuid::new_v4();
    let seen = loop {
        if let Ok(seen) = lease.state().await {
            break seen;
        }
    };
    assert!(lease.take(&seen, token).await.unwrap());
    token
}

/// Runs a merge that is suspended for 4 s inside its transaction. Returns its result and its duration.
fn stands_still(config: PostgresConfig, token: Uuid, begun: &mpsc::Sender<()>) -> (Result<(), Fault>, Duration) {
    let fence = Fence { lease: Some(token), stores: None };
    let decide = |_: Vec<CurrentState>| -> Vec<Commit> {
        begun.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        Vec::new()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let records = PostgresRecords::connect(config).await.unwrap();
        let (began, ids) = (Instant::now(), [Uuid::new_v4()]);
        let merged = records.merge_in(MergeScope { ids: &ids, fence: &fence, finished: &[] }, &decide).await;
        (merged, began.elapsed())
    })
}

#[tokio::test]
async fn a_takeover_waits_for_a_merge_and_a_merge_that_stands_still_ends_within_seconds() {
    let database = Database::fresh::<Pg18>().await;
    let records = Arc::new(database.prepared().await);
    let lease = PostgresLease::new(Arc::clone(&records), "none").unwrap();
    let token = take(&lease).await;
    let (begun, begins) = mpsc::channel();
    let config = database.config();
    let merging = std::thread::spawn(move || stands_still(config, token, &begun));
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    let began = Instant::now();
    take(&lease).await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(700), "the takeover did not wait for the merge: {waited:?}");
    assert!(waited < Duration::from_secs(3), "the takeover waited for the suspended process: {waited:?}");
    let (merged, took) = tokio::task::spawn_blocking(move || merging.join().unwrap()).await.unwrap();
    assert!(merged.is_err() && took >= Duration::from_secs(4), "the merge was committed after the takeover");
}

#[tokio::test]
async fn a_takeover_ends_the_connection_that_reads_the_slot() {
    let database = Database::fresh::<Pg15>().await;
    let records = Arc::new(database.prepared().await);
    let slot = format!("s_{}", Uuid::new_v4().simple());
    database.meddle(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    database.meddle("CREATE PUBLICATION p FOR TABLE unified.chunks").await;
    // Reads the slot by an SQL function, for as long as the client leaves the answer unread.
    let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let reader = database.client().await;
    let endless = format!(
        "SELECT pg_sleep(30) FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL, \
         'proto_version', '1', 'publication_names', 'p')"
    );
    database.meddle("INSERT INTO unified.chunks (id, content) VALUES (gen_random_uuid(), 'text')").await;
    let reading = tokio::spawn(async move { reader.batch_execute(&endless).await });
    let lease = PostgresLease::new(records, &slot).unwrap();
    // The function has read the slot when it sleeps. The takeover ends the connection only if the slot is still active.
    take(&lease).await;
    let is_free = || async {
        let is_active: bool = database.one(&active).await.get(0);
        if is_active { Err("the slot is still active") } else { Ok(()) }
    };
    eventually(is_free).await;
    reading.abort();
    database.meddle(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
}

#[tokio::test]
async fn every_transaction_commits_durably_whatever_the_role_is_set_to() {
    let database = Database::fresh::<Pg18>().await;
    let records = Arc::new(database.prepared().await);
    let name = &database.name;
    database.meddle(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    database
        .meddle(
            "CREATE TABLE public.seen (setting text, value text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO public.seen VALUES ('synchronous_commit', current_setting('synchronous_commit')),
                     ('idle', current_setting('idle_in_transaction_session_timeout'));
                 RETURN NEW; END $$;
             CREATE TRIGGER note AFTER INSERT ON chunk_sync.records FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    let id = Uuid::new_v4();
    let record_alone = |held: Vec<CurrentState>| -> Vec<Commit> {
        let commits = held.into_iter().map(|held| commit(id, held.record.unwrap_or_default(), None));
        commits.map(|commit| Commit { row_changed: false, ..commit }).collect()
    };
    records.merge(&[id], &record_alone).await.unwrap();
    let seen = database.one("SELECT string_agg(value, ' ' ORDER BY setting) FROM public.seen").await;
    assert_eq!(seen.get::<_, String>(0), "1s on");
}
