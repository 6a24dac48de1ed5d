//! Rows that the role of the service cannot see: the server refuses to read, so nothing looks deleted.

use chunk_sync_connectors::postgres::{CaptureConfig, Plugin, PostgresRecords, Publish, examine};
use chunk_sync_engine::ports::{Fault, FaultClass, Finding, Level, SystemOfRecord as _};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Role};

/// A role that may do everything with the tables but sees no row of the table of chunks.
async fn blind(database: &Database) -> Role<'_> {
    let role = database.role("REPLICATION").await;
    let name = &role.name;
    database
        .meddle(&format!(
            "GRANT CREATE ON DATABASE {} TO {name};
             GRANT USAGE, CREATE ON SCHEMA unified, chunk_sync TO {name};
             GRANT ALL ON ALL TABLES IN SCHEMA unified, chunk_sync TO {name};
             ALTER TABLE unified.chunks ENABLE ROW LEVEL SECURITY",
            database.name
        ))
        .await;
    role
}

fn is_refused<T: std::fmt::Debug>(read: Result<T, Fault>) {
    let fault = read.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
    assert!(fault.message.contains("BYPASSRLS"), "{fault}");
}

#[tokio::test]
async fn rows_that_row_level_security_hides_are_refused_and_never_look_deleted() {
    for database in [Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await] {
        database.prepared().await;
        database.meddle("INSERT INTO unified.chunks (id, content) VALUES (gen_random_uuid(), 'a hidden row')").await;
        let role = blind(&database).await;
        let records = PostgresRecords::connect(role.config()).await.unwrap();
        is_refused(records.rows(None, 10).await);
        is_refused(records.rows_of(&[Uuid::max()]).await);
        database.meddle(&format!("ALTER ROLE {} BYPASSRLS", role.name)).await;
        let records = PostgresRecords::connect(role.config()).await.unwrap();
        assert_eq!(records.rows(None, 10).await.unwrap().rows.len(), 1);
    }
}

#[tokio::test]
async fn the_examination_tries_to_read_the_table() {
    let database = Database::fresh::<Pg18>().await;
    database.prepared().await;
    let role = blind(&database).await;
    let slot = format!("examined_{}", Uuid::new_v4().simple());
    let (url, publication) = (role.config().url, "examined_pub".to_owned());
    let capture = CaptureConfig {
        url,
        publication,
        publish: Publish::Least,
        slot,
        plugin: Plugin::default(),
        silence: CaptureConfig::SILENCE,
    };
    let config = role.config();
    let failed = async || {
        let found = examine(&config, &capture).await;
        found.into_iter().filter(|finding| finding.level == Level::Failed).collect::<Vec<_>>()
    };
    let subjects = |found: &[Finding]| found.iter().map(|finding| finding.subject).collect::<Vec<_>>();
    let found = failed().await;
    // The role does not own the table, so it cannot publish it either.
    assert_eq!(subjects(&found), ["row security", "publication"], "{found:?}");
    database.meddle(found[0].remedy.as_ref().unwrap()).await;
    let found = failed().await;
    assert_eq!(subjects(&found), ["publication"], "the remedy did not help: {found:?}");
}
