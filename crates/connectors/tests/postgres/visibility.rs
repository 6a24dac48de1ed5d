//! The log hands out a commit before other connections see it. Synchronous replication without its standby makes that
//! moment last.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::postgres::{
    CaptureConfig, Plugin, PostgresCapture, PostgresConfig, PostgresRecords, Publish,
};
use chunk_sync_engine::ports::{Capture as _, Captured, FaultClass, Source, SystemOfRecord as _};
use chunk_sync_testkit::eventually;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::own_server::OwnServer;

const RULES: &str = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";

const INSERT: &str = "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
    VALUES (gen_random_uuid(), 'a row written by hand', 'text', now(), now())";

async fn await_standby(client: &Client, name: &str) {
    client.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually(|| async {
        let shown: String = client.query_one("SHOW synchronous_standby_names", &[]).await.unwrap().get(0);
        (shown == name).then_some(()).ok_or(shown)
    })
    .await;
}

async fn rows(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM unified.chunks", &[]).await.unwrap().get(0)
}

async fn next_with_rows(source: &mut dyn Source) -> Captured {
    loop {
        let captured = timeout(Duration::from_secs(30), source.next()).await.unwrap().unwrap();
        if !captured.rows.is_empty() {
            return captured;
        }
    }
}

async fn a_commit_is_awaited(plugin: Plugin) {
    let mut server = OwnServer::new(RULES);
    server.start(&["wal_level=logical", "output_plugin_libraries=pgoutput, wal2json"]).await;
    let url = server.url("postgres");
    let records =
        Arc::new(PostgresRecords::connect(PostgresConfig::new(url.clone().into(), Arc::default())).await.unwrap());
    records.prepare().await.unwrap();
    let (publication, slot) = ("visible_pub".to_owned(), "visible_slot".to_owned());
    let silence = CaptureConfig::SILENCE;
    let config = CaptureConfig { url: url.into(), publication, publish: Publish::Least, slot, plugin, silence };
    let capture = PostgresCapture::new(records, config);
    let mut opened = capture.open().await.unwrap();

    let (client, writer) = (server.client().await, server.client().await);
    await_standby(&client, "absent").await;
    let inserted = tokio::spawn(async move { writer.batch_execute(INSERT).await });
    let captured = next_with_rows(&mut *opened.source).await;
    let transactions = [captured.transaction.unwrap()];
    assert_eq!(rows(&client).await, 0, "captured before it is visible");
    let fault = capture.until_visible(&transactions).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Timeout, "{fault}");
    assert!(fault.message.contains("synchronous_standby_names"), "{fault}");

    let visible = async {
        capture.until_visible(&transactions).await.unwrap();
        rows(&client).await
    };
    let released = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        await_standby(&server.client().await, "").await;
    };
    assert_eq!(tokio::join!(visible, released).0, 1);
    inserted.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_awaited_until_others_see_it() {
    a_commit_is_awaited(Plugin::Pgoutput).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_read_by_wal2json_is_awaited_until_others_see_it() {
    a_commit_is_awaited(Plugin::Wal2Json).await;
}
