//! What disturbs capture: changed publications, open transactions, silent connections, large transactions, read-only
//! databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chunk_sync_connectors::postgres::{
    CaptureConfig, Plugin, PostgresCapture, PostgresConfig, PostgresRecords, Publish,
};
use chunk_sync_engine::ports::{Capture, Captured, Fault, FaultClass, Gap, Opened, PART, Source, Touch};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::capture::{Environment, id, touched};
use crate::fixture::{Database, Pg15, Pg18, Server};

const SOON: Duration = Duration::from_secs(30);

fn insert(number: u128) -> String {
    format!("INSERT INTO unified.chunks (id, content) VALUES ('{}', 'of another program')", id(number))
}

async fn a_changed_publication_is_a_gap<S: Server>(change: &str) {
    let environment = Environment::fresh::<S>(Plugin::Pgoutput).await;
    let opened = environment.open().await;
    environment.capture.heartbeat().await.unwrap();
    environment.database.meddle(change).await;
    // Missed: no publication holds the row at this moment.
    environment.database.meddle(&insert(1)).await;
    let fault = environment.capture.heartbeat().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    assert!(fault.message.contains("captured_pub"), "{fault}");
    drop(opened);
    let Opened { mut source, positions, gap } = environment.open().await;
    assert_eq!(gap, Some(Gap::Unpublished));
    environment.database.meddle(&insert(2)).await;
    let seen = touched(&mut *source, 1).await;
    assert!(seen.iter().any(|part| part.rows == [(id(2), Touch::Inserted)]), "{seen:?}");
    environment.capture.heartbeat().await.unwrap();
    positions.close_gap().await.unwrap();
    drop(source);
    assert_eq!(environment.open().await.gap, None);
    environment.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_dropped_from_the_publication_is_a_gap() {
    a_changed_publication_is_a_gap::<Pg18>("ALTER PUBLICATION captured_pub DROP TABLE unified.chunks").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_of_inserts_only_is_a_gap() {
    let change = "ALTER PUBLICATION captured_pub SET (publish = 'update')";
    a_changed_publication_is_a_gap::<Pg15>(change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_publication_is_a_gap_on_15() {
    a_changed_publication_is_a_gap::<Pg15>("DROP PUBLICATION captured_pub").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_publication_is_a_gap_on_18() {
    a_changed_publication_is_a_gap::<Pg18>("DROP PUBLICATION captured_pub").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_was_created_again_is_a_gap() {
    let change = "DROP PUBLICATION captured_pub; CREATE PUBLICATION captured_pub FOR TABLE unified.chunks (id)";
    let environment = Environment::fresh::<Pg18>(Plugin::Pgoutput).await;
    let opened = environment.open().await;
    environment.database.meddle(change).await;
    assert_eq!(environment.capture.heartbeat().await.unwrap_err().class, FaultClass::Misconfigured);
    drop(opened);
    assert_eq!(environment.open().await.gap, Some(Gap::Unpublished));
    environment.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_creation_of_the_slot_outlasts_our_timeouts_and_names_who_is_in_the_way() {
    let database = Database::fresh::<Pg18>().await;
    database.prepared().await;
    let short = Duration::from_millis(400);
    let config = PostgresConfig { lock_timeout: short, statement_timeout: short, ..database.config() };
    let records = Arc::new(PostgresRecords::connect(config).await.unwrap());
    let slot = format!("captured_{}", uuid::Uuid::new_v4().simple());
    let config = CaptureConfig {
        url: database.url.as_str().into(),
        publication: "captured_pub".to_owned(),
        slot: slot.clone(),
        publish: Publish::Least,
        plugin: Plugin::Pgoutput,
        silence: CaptureConfig::SILENCE,
    };
    let capture = Arc::new(PostgresCapture::new(records, config));
    let blocking = database.client().await;
    blocking.batch_execute("BEGIN; CREATE TABLE others (id int)").await.unwrap();
    let pid: i32 = blocking.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let opening = tokio::spawn({
        let capture = Arc::clone(&capture);
        async move { capture.open().await.map(|opened| opened.gap) }
    });
    let named = async {
        while !capture.obstacle().is_some_and(|by| by.contains(&format!("pid {pid} (user ")) && by.contains(" s)")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, named).await.expect("the blocking session was not named");
    // Longer than our timeouts.
    tokio::time::sleep(3 * short).await;
    assert!(!opening.is_finished(), "a timeout ended the creation");
    blocking.batch_execute("COMMIT").await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, opening).await.unwrap().unwrap().unwrap(), None);
    assert_eq!(capture.obstacle(), None);
    let ended = format!(
        "DO $$ BEGIN LOOP BEGIN
             PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;
             PERFORM pg_drop_replication_slot('{slot}'); EXIT;
         EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.01); END; END LOOP; END $$"
    );
    database.meddle(&ended).await;
}

/// A proxy to the server of a URL that can stop to forward.
async fn proxy(url: &str, held: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (rest, target) = url.rsplit_once('@').unwrap();
    let (target, database) = target.split_once('/').unwrap();
    let (address, target) = (listener.local_addr().unwrap(), target.to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (client_reads, client_writes) = client.into_split();
            let (server_reads, server_writes) = TcpStream::connect(&target).await.unwrap().into_split();
            tokio::spawn(forward(client_reads, server_writes, Arc::clone(&held)));
            tokio::spawn(forward(server_reads, client_writes, Arc::clone(&held)));
        }
    });
    format!("{rest}@{address}/{database}")
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, held: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        while held.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_noticed_although_each_wait_is_short() {
    let database = Database::fresh::<Pg18>().await;
    database.meddle(&format!("ALTER DATABASE {} SET wal_sender_timeout = '2s'", database.name)).await;
    let held = Arc::new(AtomicBool::new(false));
    let via = proxy(&database.url, Arc::clone(&held)).await;
    let silence = Duration::from_secs(2);
    database.prepared().await;
    let environment = Environment::with(database, Plugin::Pgoutput, Publish::Least, silence, &via).await;
    let mut source = environment.open().await.source;
    environment.database.meddle(&insert(1)).await;
    assert_eq!(touched(&mut *source, 1).await.len(), 1);
    held.store(true, Ordering::Relaxed);
    let noticed = async {
        loop {
            if let Ok(Err(fault)) = tokio::time::timeout(Duration::from_millis(50), source.next()).await {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(SOON, noticed).await.expect("the silence was not noticed");
    assert_eq!(fault.class, FaultClass::Timeout, "{fault}");
    drop(source);
    held.store(false, Ordering::Relaxed);
    environment.leave().await;
}

async fn parts(source: &mut dyn Source, rows: usize) -> Vec<Captured> {
    let (mut parts, mut read) = (Vec::new(), 0);
    while read < rows {
        let part = tokio::time::timeout(SOON, source.next()).await.expect("no part within 30 s").unwrap();
        read += part.rows.len();
        if !part.rows.is_empty() {
            parts.push(part);
        }
    }
    parts
}

async fn a_large_transaction_comes_in_bounded_parts<S: Server>(plugin: Plugin) {
    const ROWS: usize = 2 * PART + 100;
    let environment = Environment::fresh::<S>(plugin).await;
    let mut source = environment.open().await.source;
    let many = format!(
        "INSERT INTO unified.chunks (id, content) SELECT gen_random_uuid(), 'text number ' || g FROM generate_series(1, {ROWS}) g"
    );
    environment.database.meddle(&many).await;
    let first = parts(&mut *source, 1).await.remove(0);
    assert_eq!((first.rows.len(), first.end), (PART, None));
    // A fault in the middle: the transaction comes again from its first row.
    drop(source);
    let mut source = environment.open().await.source;
    let parts = parts(&mut *source, ROWS).await;
    assert_eq!(parts[0].rows, first.rows);
    let sizes: Vec<_> = parts.iter().map(|part| (part.rows.len(), part.end.is_some())).collect();
    assert_eq!(sizes, [(PART, false), (PART, false), (100, true)]);
    assert!(parts.iter().all(|part| part.commit == parts[0].commit));
    drop(source);
    environment.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_comes_in_bounded_parts_by_pgoutput() {
    a_large_transaction_comes_in_bounded_parts::<Pg18>(Plugin::Pgoutput).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_comes_in_bounded_parts_by_wal2json() {
    a_large_transaction_comes_in_bounded_parts::<Pg15>(Plugin::Wal2Json).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_gets_no_writes_and_is_written_again_once_it_takes_them() {
    let environment = Environment::fresh::<Pg18>(Plugin::Pgoutput).await;
    let opened = environment.open().await;
    environment.capture.heartbeat().await.unwrap();
    let database = &environment.database;
    database.meddle(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name)).await;
    // Sessions that were open before could still write; the service closes them.
    let refused: Fault = environment.capture.heartbeat().await.unwrap_err();
    assert_eq!(refused.class, FaultClass::Unavailable, "{refused}");
    assert!(refused.message.contains("default_transaction_read_only"), "{refused}");
    // A command starts and reads meanwhile.
    database.records().await;
    let operator = database.client().await;
    operator.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let lifted = format!("ALTER DATABASE {} RESET default_transaction_read_only", database.name);
    operator.batch_execute(&lifted).await.unwrap();
    environment.capture.heartbeat().await.unwrap();
    drop(opened);
    environment.leave().await;
}
