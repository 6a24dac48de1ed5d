//! Servers lose data or close connections under load: no committed row is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::environment::Environment;

const ROWS: u64 = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_streams_and_cut_connections_lose_no_row() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let run = environment.start();
    environment.visible("an active slot", || environment.captured_by_somebody()).await;
    let written = Arc::new(AtomicU64::new(0));
    let writing = tokio::spawn(write_rows(environment.database.clone(), Arc::clone(&written)));
    for quarter in 1..4 {
        environment.visible("rows", || async { written.load(Ordering::Relaxed) >= quarter * ROWS / 4 }).await;
        environment.empty_streams().await;
        let others = "pid <> pg_backend_pid() AND application_name <> 'a writer' AND datname = current_database()";
        environment.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")).await;
    }
    writing.await.unwrap();
    environment.visible("every row", || async { environment.nodes().await == ROWS }).await;
    environment.settled().await;
    environment.assert_equal(ROWS);
    run.kill();
}

/// Writes a row every 4 ms, and updates every third row.
async fn write_rows(database: String, written: Arc<AtomicU64>) {
    let (client, connection) =
        tokio_postgres::connect(&format!("{database}?application_name=a%20writer"), NoTls).await.unwrap();
    tokio::spawn(connection);
    let insert = "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
                  VALUES ($1, 'a row written by hand', 'text', now(), now())";
    let update = "UPDATE unified.chunks SET content = 'a row written again', updated_at = now() WHERE id = $1";
    for number in 0..ROWS {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes());
        client.execute(insert, &[&id]).await.unwrap();
        if number % 3 == 0 {
            client.execute(update, &[&id]).await.unwrap();
        }
        written.store(number + 1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}
