//! Set-ups in which the service cannot work: `doctor` names them, and `init` or `run` refuse with the same remedy.

use std::sync::Arc;

use chunk_sync_connectors::postgres::{
    CaptureConfig, Plugin, PostgresCapture, PostgresConfig, PostgresRecords, Publish, examine,
};
use chunk_sync_engine::ports::{Capture as _, Fault, FaultClass, Finding, Level, SystemOfRecord as _};
use tokio_postgres::NoTls;

use crate::own_server::OwnServer;
use chunk_sync_testkit::eventually;

const RULES: &str = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n";

fn capture_config(url: &str) -> CaptureConfig {
    CaptureConfig {
        url: url.into(),
        publication: "setup_pub".to_owned(),
        publish: Publish::Least,
        slot: "setup_slot".to_owned(),
        plugin: Plugin::default(),
        silence: CaptureConfig::SILENCE,
    }
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::new(url.into(), Arc::default())
}

async fn problem(url: &str, subject: &str) -> Finding {
    let found = examine(&config(url), &capture_config(url)).await;
    let problem = found.iter().find(|finding| finding.subject == subject && finding.level > Level::Ok);
    problem.unwrap_or_else(|| panic!("{subject}: {found:?}")).clone()
}

/// What `init` does.
async fn prepare(url: &str) -> Result<(), Fault> {
    let records = Arc::new(PostgresRecords::connect(config(url)).await?);
    records.prepare().await?;
    PostgresCapture::new(records, capture_config(url)).prepare().await
}

/// `doctor` fails with this subject and remedy, and `init` refuses with the remedy.
async fn both_refuse(url: &str, subject: &str, remedy: &str) {
    let finding = problem(url, subject).await;
    let words = finding.remedy.clone().unwrap();
    assert!(finding.level == Level::Failed && words.contains(remedy), "{finding:?}");
    let fault = prepare(url).await.unwrap_err();
    assert!(fault.message.contains(&words), "{fault}: {words}");
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_replicate_is_refused_until_the_remedy_is_applied() {
    let mut server = OwnServer::new(RULES);
    let url = server.url("postgres");
    server.start(&["wal_level=replica"]).await;
    both_refuse(&url, "wal_level", "wal_level = logical in postgresql.conf").await;
    for (setting, remedy) in [
        ("rds.logical_replication", "rds.logical_replication = 1 in the parameter group"),
        ("cloudsql.logical_decoding", "cloudsql.logical_decoding = on"),
        ("azure.extensions", "azure.replication_support"),
        ("neon.timeline_id", "settings of the project"),
    ] {
        let client = server.client().await;
        client.batch_execute(&format!("ALTER DATABASE postgres SET {setting} = 'x'")).await.unwrap();
        both_refuse(&url, "wal_level", remedy).await;
        client.batch_execute("ALTER DATABASE postgres RESET ALL").await.unwrap();
    }
    server.start(&["wal_level=logical", "max_replication_slots=1"]).await;
    let client = server.client().await;
    client.batch_execute("SELECT pg_create_logical_replication_slot('taken', 'pgoutput')").await.unwrap();
    both_refuse(&url, "slots", "max_replication_slots").await;
    client.batch_execute("SELECT pg_drop_replication_slot('taken')").await.unwrap();
    prepare(&url).await.unwrap();
    let found = examine(&config(&url), &capture_config(&url)).await;
    let failed: Vec<_> = found.iter().filter(|finding| finding.level > Level::Warning).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_and_found_again_after_its_promotion() {
    let mut primary = OwnServer::new(RULES);
    let settings = ["wal_level=logical"];
    primary.start(&settings).await;
    prepare(&primary.url("postgres")).await.unwrap();
    let records = Arc::new(PostgresRecords::connect(config(&primary.url("postgres"))).await.unwrap());
    drop(PostgresCapture::new(records, capture_config(&primary.url("postgres"))).open().await.unwrap());
    let mut standby = OwnServer::standby_of(&primary);
    standby.start(&settings).await;

    let finding = problem(&standby.url("postgres"), "role").await;
    assert!(finding.level == Level::Failed && finding.remedy.unwrap().contains("primary"));
    let fault = PostgresRecords::connect(config(&standby.url("postgres"))).await.err().unwrap();
    assert!(fault.message.contains("standby") && fault.message.contains("primary"), "{fault}");

    // Whatever the order, the list leads to the primary.
    let login = format!("postgres:{}", crate::own_server::PASSWORD);
    let list = format!("postgres://{login}@127.0.0.1:{},127.0.0.1:{}/postgres", standby.port, primary.port);
    let records = PostgresRecords::connect(config(&list)).await.unwrap();
    assert_eq!(records.counts().await.unwrap().chunks, 0);
    primary.stop();
    let (client, connection) = tokio_postgres::connect(&standby.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SELECT pg_promote(true, 60)").await.unwrap();
    // The first calls may meet the connections to the old primary.
    let capture = PostgresCapture::new(Arc::new(records), capture_config(&list));
    let opened = eventually(|| capture.open()).await;
    // The slot of PostgreSQL 15 stayed behind.
    assert!(opened.gap.is_some());
}
