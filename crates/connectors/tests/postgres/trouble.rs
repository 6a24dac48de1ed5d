//! Failures, and the faults that the engine gets for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chunk_sync_connectors::postgres::{PostgresConfig, PostgresRecords};
use chunk_sync_engine::ports::{Applied, Fault, FaultClass, Outbox as _, PendingWrite, SystemOfRecord as _};
use chunk_sync_model::{State, SyncVersion, Target};
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{changed, states, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::fixture::{Database, Pg15};

async fn refused(url: &str) -> Fault {
    let config = PostgresConfig::new(url.into(), Arc::default());
    let config = PostgresConfig { connect_timeout: Duration::from_millis(500), ..config };
    PostgresRecords::connect(config).await.err().expect("the connection must fail")
}

#[tokio::test]
async fn each_failure_to_connect_has_its_class() {
    let database = Database::fresh::<Pg15>().await;
    // The operating system accepts the connection, and no process answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://me:pl4nted@{}/db", silent.local_addr().unwrap());
    assert_eq!(refused(&url).await.class, FaultClass::Timeout);
    drop(silent);
    assert_eq!(refused(&url).await.class, FaultClass::Unavailable);
    let (_, environment) = database.url.rsplit_once('@').unwrap();
    let fault = refused(&format!("postgres://postgres:pl4nted@{environment}")).await;
    assert_eq!(fault.class, FaultClass::Denied);
    assert!(!format!("{fault} {fault:?}").contains("pl4nted"));
    assert_eq!(refused(&format!("{}x", database.url)).await.class, FaultClass::Misconfigured);
    let fault = refused(&format!("{}?sslmode=require", database.url)).await;
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("does not support TLS"), "{fault}");
}

#[tokio::test]
async fn a_state_that_the_table_cannot_hold_fails_alone() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let mut all = states(5);
    let mut bad = State::clone(&all[2]);
    bad.chunk.metadata.extra.insert("nul".to_owned(), "\0".into());
    all[2] = Arc::new(bad);
    let mut bad = State::clone(&all[4]);
    bad.chunk.content.push('\0');
    all[4] = Arc::new(bad);
    let applied = records.apply(&all.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    for (at, applied) in applied.iter().enumerate() {
        match applied {
            Applied::Failed(fault) => assert!(at % 2 == 0 && at > 0 && fault.class == FaultClass::Rejected, "{fault}"),
            applied => assert!(matches!((at, applied), (0 | 1 | 3, Applied::Written)), "{at}: {applied:?}"),
        }
    }
    assert_eq!(records.counts().await.unwrap().chunks, 3);
}

#[tokio::test]
async fn a_lock_timeout_is_busy_and_a_statement_timeout_is_a_timeout() {
    let database = Database::fresh::<Pg15>().await;
    let state = states(1).remove(0);
    database.prepared().await.apply(&[write(&state, 1)]).await;
    let mut other = database.client().await;
    let transaction = other.transaction().await.unwrap();
    transaction.execute("SELECT FROM unified.chunks FOR UPDATE", &[]).await.unwrap();
    let short = Duration::from_millis(200);
    let hasty = database.records().await;
    let fault = hasty.merge(&[state.chunk.id], &|_| Vec::new()).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Busy, "{fault}");
    drop(transaction);
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$; \
        CREATE TRIGGER slow BEFORE INSERT ON unified.chunks FOR EACH ROW EXECUTE FUNCTION slow()";
    database.meddle(slow).await;
    let config = PostgresConfig { statement_timeout: short, ..database.config() };
    let hasty = PostgresRecords::connect(config).await.unwrap();
    let applied = hasty.apply(&[write(&states(2)[1], 1)]).await;
    assert!(matches!(&applied[0], Applied::Failed(fault) if fault.class == FaultClass::Timeout), "{applied:?}");
    // The connection is usable afterwards.
    hasty.outbox_counts().await.unwrap();
}

#[tokio::test]
async fn connections_that_an_operator_terminates_are_replaced() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'chunk-sync'";
    for round in 1..5 {
        let state = states(1).remove(0);
        // Each call uses at most one terminated connection, and there are no more of them than the pool holds.
        for attempt in 0.. {
            match &records.apply(&[write(&state, round)]).await[0] {
                Applied::Failed(fault) => assert_eq!(fault.class, FaultClass::Unavailable, "{fault}"),
                _ => break,
            }
            assert!(attempt < 16, "the pool keeps returning terminated connections");
        }
        assert!(database.one(end).await.get::<_, i64>(0) > 0);
    }
}

#[tokio::test]
async fn a_read_only_database_can_be_read_and_refuses_writes_with_the_remedy() {
    let database = Database::fresh::<Pg15>().await;
    drop(database.prepared().await);
    database.meddle(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name)).await;
    let records = PostgresRecords::connect(database.config()).await.unwrap();
    records.counts().await.unwrap();
    let write = PendingWrite { id: Uuid::from_u128(1), target: Target::Qdrant, version: SyncVersion::new(1) };
    let fault = records.enqueue(&[write]).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Unavailable, "{fault}");
    assert!(fault.message.contains("default_transaction_read_only"), "{fault}");
}

/// A proxy to the server that can stop forwarding answers without closing the connection. Returns its URL.
async fn muted(server: &str, mute: Arc<AtomicBool>) -> String {
    let (credentials, environment) = server.rsplit_once('@').unwrap();
    let (address, name) = environment.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{credentials}@{}/{name}", listener.local_addr().unwrap());
    let address = address.to_owned();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&address).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, Arc::default()));
            tokio::spawn(carry(far_in, near_out, Arc::clone(&mute)));
        }
    });
    url
}

/// Forwards bytes; discards them while `mute` is set.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mute: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if !mute.load(Ordering::SeqCst) && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_is_reported_and_its_connection_is_not_used_again() {
    let database = Database::fresh::<Pg15>().await;
    let mute = Arc::new(AtomicBool::new(false));
    let url = muted(&database.url, Arc::clone(&mute)).await;
    let config = PostgresConfig::new(url.into(), Arc::default());
    let statement_timeout = Duration::from_millis(700);
    let records = PostgresRecords::connect(PostgresConfig { statement_timeout, pool_size: 1, ..config }).await.unwrap();
    records.prepare().await.unwrap();
    let state = states(1).remove(0);
    assert!(records.apply(&[write(&state, 1)]).await[0].is_durable());
    mute.store(true, Ordering::SeqCst);
    let applied = records.apply(&[write(&changed(&state, "a write without an answer"), 2)]).await;
    // The server ends a transaction that waits for this process, which may happen before the time limit.
    let is_reported = |fault: &Fault| matches!(fault.class, FaultClass::Timeout | FaultClass::Unavailable);
    assert!(matches!(&applied[0], Applied::Failed(fault) if is_reported(fault)), "{applied:?}");
    mute.store(false, Ordering::SeqCst);
    assert!(records.apply(&[write(&state, 3)]).await[0].is_durable());
}
