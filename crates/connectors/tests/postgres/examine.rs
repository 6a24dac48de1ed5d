//! Findings of the examination on different servers. It changes nothing.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_connectors::postgres::{
    CaptureConfig, Plugin, PostgresCapture, PostgresConfig, PostgresRecords, Publish, examine,
};
use chunk_sync_engine::ports::{Capture, FaultClass, Finding, Level, SystemOfRecord as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Server};

struct Environment {
    database: Database,
    config: PostgresConfig,
    capture: CaptureConfig,
}

impl Environment {
    async fn fresh<S: Server>() -> Self {
        let database = Database::fresh::<S>().await;
        let config = PostgresConfig::new(database.url.as_str().into(), Arc::default());
        let slot = format!("examined_{}", Uuid::new_v4().simple());
        let publication = "examined_pub".to_owned();
        let capture = CaptureConfig {
            url: database.url.as_str().into(),
            publication,
            publish: Publish::Least,
            slot,
            plugin: Plugin::default(),
            silence: CaptureConfig::SILENCE,
        };
        Self { database, config, capture }
    }

    async fn prepare(&self) {
        let records = Arc::new(PostgresRecords::connect(self.config.clone()).await.unwrap());
        records.prepare().await.unwrap();
        PostgresCapture::new(records, self.capture.clone()).prepare().await.unwrap();
    }

    async fn problems(&self) -> Vec<Finding> {
        let found = examine(&self.config, &self.capture).await;
        found.into_iter().filter(|finding| finding.level > Level::Ok).collect()
    }

    /// Drops the slot, which dropping the database does not remove.
    async fn leave(self) {
        self.database.meddle(&format!("SELECT pg_drop_replication_slot('{}')", self.capture.slot)).await;
    }
}

fn seen(found: &[Finding]) -> Vec<(&'static str, Level)> {
    found.iter().map(|finding| (finding.subject, finding.level)).collect()
}

#[tokio::test]
async fn before_the_first_start_there_are_warnings_and_after_it_none() {
    let environment = Environment::fresh::<Pg18>().await;
    let before = environment.problems().await;
    let expected = ["table", "own tables", "slot", "publication"].map(|subject| (subject, Level::Warning));
    assert_eq!(seen(&before), expected, "{before:?}");
    assert_eq!(environment.problems().await, before, "the examination created something");
    let by_plugin = CaptureConfig { plugin: Plugin::Wal2Json, ..environment.capture.clone() };
    let found = examine(&environment.config, &by_plugin).await;
    assert!(found.iter().any(|one| one.subject == "plugin" && one.level == Level::Warning), "{found:?}");
    environment.prepare().await;
    assert_eq!(environment.problems().await, []);
    environment.leave().await;
}

#[tokio::test]
async fn a_server_without_pgvector_is_reported() {
    let found = Environment::fresh::<Pg15>().await.problems().await;
    assert_eq!(seen(&found)[0], ("pgvector", Level::Warning), "{found:?}");
}

#[tokio::test]
async fn a_slot_of_another_database_is_refused_in_the_words_of_init() {
    let (owner, other) = (Environment::fresh::<Pg18>().await, Environment::fresh::<Pg18>().await);
    owner.prepare().await;
    other.prepare().await;
    let capture = CaptureConfig { slot: owner.capture.slot.clone(), ..other.capture.clone() };
    let config = other.database.config();
    let found = examine(&config, &capture).await;
    let slot = found.iter().find(|finding| finding.subject == "slot").unwrap();
    assert!(slot.level == Level::Failed && slot.text.contains(&owner.database.name), "{found:?}");
    let capture = PostgresCapture::new(Arc::new(PostgresRecords::connect(config).await.unwrap()), capture);
    for fault in [capture.prepare().await.unwrap_err(), capture.open().await.map(drop).unwrap_err()] {
        assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
        assert!(fault.message.contains(&slot.text) && fault.message.contains(slot.remedy.as_ref().unwrap()), "{fault}");
    }
    owner.leave().await;
    other.leave().await;
}

#[tokio::test]
async fn a_subscription_that_would_take_the_changes_is_reported() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    let slot = &environment.capture.slot;
    environment
        .database
        .meddle(&format!(
            "CREATE SUBSCRIPTION thief CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = '{slot}')"
        ))
        .await;
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("subscription", Level::Warning)], "{found:?}");
    for statement in found[0].remedy.as_ref().unwrap().split("; ") {
        environment.database.meddle(statement).await;
    }
    assert_eq!(environment.problems().await, [], "the remedy did not help");
    environment.leave().await;
}

#[tokio::test]
async fn a_table_with_a_missing_column_is_reported_with_the_remedy() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    environment.database.meddle("ALTER TABLE unified.chunks DROP COLUMN language").await;
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("table", Level::Failed)]);
    assert!(found[0].text.contains("ADD COLUMN language text"), "{found:?}");
    environment.database.meddle("ALTER TABLE unified.chunks ADD COLUMN language text; ALTER PUBLICATION examined_pub DROP TABLE unified.chunks").await;
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("publication", Level::Failed)]);
    environment.database.meddle(found[0].remedy.as_ref().unwrap()).await;
    assert_eq!(environment.problems().await, []);
    environment.leave().await;
}

#[tokio::test]
async fn rights_that_are_missing_are_named_and_granting_them_helps() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    let config = environment.database.role("").await.config();
    let capture = CaptureConfig { url: config.url.clone(), ..environment.capture.clone() };
    let problems = async || {
        let found = examine(&config, &capture).await;
        found.into_iter().filter(|finding| finding.level > Level::Ok).collect::<Vec<_>>()
    };
    let found = problems().await;
    assert_eq!(seen(&found), [("rights", Level::Failed), ("replication right", Level::Failed)], "{found:?}");
    for finding in &found {
        environment.database.meddle(finding.remedy.as_ref().unwrap()).await;
    }
    assert_eq!(problems().await, []);
    environment.leave().await;
}

#[tokio::test]
async fn a_publication_that_the_role_may_not_create_is_refused_in_the_words_of_init() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    let role = environment.database.role("REPLICATION").await;
    let grants = format!(
        "GRANT CREATE ON DATABASE {0} TO {1}; GRANT ALL ON SCHEMA unified, chunk_sync TO {1}; \
         GRANT ALL ON ALL TABLES IN SCHEMA unified, chunk_sync TO {1}",
        environment.database.name, role.name
    );
    environment.database.meddle(&grants).await;
    let config = role.config();
    let capture = CaptureConfig {
        url: config.url.clone(),
        publication: "never_made".to_owned(),
        slot: "never_made".to_owned(),
        ..environment.capture.clone()
    };
    let found = examine(&config, &capture).await;
    let publication = found.iter().find(|finding| finding.subject == "publication").unwrap();
    let remedy = publication.remedy.as_deref().unwrap();
    assert!(publication.level == Level::Failed && remedy.contains("CREATE PUBLICATION"), "{found:?}");
    let records = Arc::new(PostgresRecords::connect(config.clone()).await.unwrap());
    let fault = PostgresCapture::new(records, capture).prepare().await.unwrap_err();
    assert!(fault.message.contains(remedy), "{fault}");
    environment.leave().await;
}

#[tokio::test]
async fn the_right_to_replicate_is_tried_and_its_grant_is_that_of_the_provider() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    let role = environment.database.role("").await;
    let config = role.config();
    let capture =
        CaptureConfig { url: config.url.clone(), slot: "never_made".to_owned(), ..environment.capture.clone() };
    let grants = format!(
        "GRANT CREATE ON DATABASE {0} TO {1}; GRANT ALL ON SCHEMA unified, chunk_sync TO {1}; \
         GRANT ALL ON ALL TABLES IN SCHEMA unified, chunk_sync TO {1}",
        environment.database.name, role.name
    );
    environment.database.meddle(&grants).await;
    for (setting, grant) in [
        ("rds.logical_replication", "GRANT rds_replication TO"),
        ("cloudsql.logical_decoding", "REPLICATION"),
        ("azure.extensions", "REPLICATION"),
    ] {
        let alter = |change: &str| format!("ALTER DATABASE {} {change}", environment.database.name);
        environment.database.meddle(&alter(&format!("SET {setting} = 'off'"))).await;
        let found = examine(&config, &capture).await;
        let right = found.iter().find(|finding| finding.subject == "replication right").unwrap();
        let remedy = right.remedy.as_deref().unwrap();
        assert!(right.level == Level::Failed && remedy.contains(grant), "{setting}: {found:?}");
        // The service refuses with the same words.
        let records = Arc::new(PostgresRecords::connect(config.clone()).await.unwrap());
        let fault = PostgresCapture::new(records, capture.clone()).prepare().await.unwrap_err();
        assert!(fault.message.contains(remedy), "{fault}");
        environment.database.meddle(&alter("RESET ALL")).await;
    }
    environment.leave().await;
}

#[tokio::test]
async fn times_without_a_zone_are_named_where_sessions_have_another_than_utc() {
    let environment = Environment::fresh::<Pg15>().await;
    environment.prepare().await;
    let database = &environment.database;
    database.meddle("ALTER TABLE unified.chunks ALTER updated_at TYPE timestamp").await;
    let times = async || {
        let found = examine(&environment.config, &environment.capture).await;
        found.into_iter().find(|finding| finding.subject == "times")
    };
    database.meddle(&format!("ALTER DATABASE {} SET timezone = 'UTC'", database.name)).await;
    assert_eq!(times().await.unwrap().level, Level::Ok);
    database.meddle(&format!("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'", database.name)).await;
    let found = times().await.unwrap();
    assert!(found.level == Level::Warning && found.text.contains("+05:30"), "{found:?}");
    let (_, remedy) = found.remedy.as_deref().unwrap().split_once(": ").unwrap();
    database.meddle(remedy).await;
    assert_eq!(times().await, None);
    environment.leave().await;
}

#[tokio::test]
async fn a_read_only_database_is_refused_in_the_words_of_init() {
    let environment = Environment::fresh::<Pg18>().await;
    let name = &environment.database.name;
    environment.database.meddle(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let found = environment.problems().await;
    let role = found.iter().find(|finding| finding.subject == "role").unwrap();
    let records = PostgresRecords::connect(environment.config.clone()).await.unwrap();
    let fault = records.prepare().await.unwrap_err();
    assert!(
        role.level == Level::Failed && fault.message.contains(role.remedy.as_deref().unwrap()),
        "{role:?}: {fault}"
    );
}

#[tokio::test]
async fn a_slot_outlives_a_failover_where_the_server_can_do_that() {
    let environment = Environment::fresh::<Pg18>().await;
    environment.prepare().await;
    let sql = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", environment.capture.slot);
    assert!(environment.database.one(&sql).await.get::<_, bool>(0));
    environment.leave().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable_in_time() {
    let mut environment = Environment::fresh::<Pg15>().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    environment.config.url = format!("postgres://me:pl4nted@{}/db", nobody.local_addr().unwrap()).as_str().into();
    environment.config.connect_timeout = Duration::from_millis(300);
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("server", Level::Unreachable)]);
    drop(nobody);
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("server", Level::Unreachable)]);
    assert!(!format!("{found:?}").contains("pl4nted"));
    environment.config.url = "postgres://me:pl4nted@db.example/db?sslmode=disable".into();
    let found = environment.problems().await;
    assert_eq!(seen(&found), [("link", Level::Failed)]);
    environment.config.allow_insecure = true;
    assert_eq!(seen(&environment.problems().await)[0], ("link", Level::Warning));
}
