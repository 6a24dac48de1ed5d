//! The writes of the application go on working once the table is published, whatever its shape and whatever publication
//! exists, and every one of them is captured.

use chunk_sync_connectors::postgres::Publish;
use chunk_sync_engine::ports::{Capture, FaultClass, Gap, Opened, Touch};
use uuid::Uuid;

use crate::capture::{Environment, touched};
use crate::fixture::{Pg15, Pg18, Server};

/// Replaces the table by a partitioned one with this key.
const PARTITIONED: &str =
    "ALTER TABLE unified.chunks RENAME TO plain; ALTER TABLE unified.plain DROP CONSTRAINT chunks_pkey;
    CREATE TABLE unified.chunks (LIKE unified.plain INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY HASH (id);
    CREATE TABLE unified.p0 PARTITION OF unified.chunks FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE unified.p1 PARTITION OF unified.chunks FOR VALUES WITH (MODULUS 2, REMAINDER 1);";

const NO_KEY: &str = "ALTER TABLE unified.chunks DROP CONSTRAINT chunks_pkey";

/// Inserts, updates and deletes rows as an application; every change must succeed and be captured.
async fn writes_work(environment: &Environment, mut opened: Opened) {
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    for id in &ids {
        let row = format!(
            "INSERT INTO unified.chunks (id, content, project_id) VALUES ('{id}', 'some text', gen_random_uuid())"
        );
        environment.database.meddle(&row).await;
    }
    environment.database.meddle("UPDATE unified.chunks SET summary = 'of the application'").await;
    environment.database.meddle("DELETE FROM unified.chunks").await;
    let mut rows = Vec::new();
    while !ids.iter().all(|id| rows.contains(&(*id, Touch::Deleted))) {
        rows.extend(touched(&mut *opened.source, 1).await.remove(0).rows);
    }
    for id in ids {
        let of: Vec<_> = rows.iter().filter(|(row, _)| *row == id).map(|(_, touch)| *touch).collect();
        assert_eq!(of, [Touch::Inserted, Touch::Updated, Touch::Deleted]);
    }
}

async fn works<S: Server>(shape: &str) {
    let environment = Environment::shaped::<S>(shape).await;
    environment.capture.check().await.unwrap();
    environment.capture.prepare().await.unwrap();
    assert!(environment.capture.statements().await.unwrap().is_empty(), "{shape}: still to be changed");
    writes_work(&environment, environment.open().await).await;
    environment.leave().await;
}

async fn every_shape_with_an_identity_works<S: Server>() {
    works::<S>("ALTER TABLE unified.chunks REPLICA IDENTITY FULL").await;
    works::<S>(&format!(
        "{NO_KEY}; ALTER TABLE unified.chunks ADD PRIMARY KEY (project_id, id);
         CREATE UNIQUE INDEX one ON unified.chunks (id)"
    ))
    .await;
    works::<S>(PARTITIONED).await;
    works::<S>(&format!("{PARTITIONED}; ALTER TABLE unified.p1 REPLICA IDENTITY FULL")).await;
}

async fn every_existing_publication_is_made_to_work<S: Server>() {
    for publication in [
        "FOR TABLE unified.chunks WITH (publish = 'insert')",
        "FOR TABLE unified.chunks (id) WHERE (id > '80000000-0000-0000-0000-000000000000')",
        "FOR TABLE unified.chunks (id, content, summary)",
        // Other tables do not concern capture, whether they have a column id or not.
        "FOR ALL TABLES",
        "FOR TABLES IN SCHEMA unified",
        "FOR TABLE unified.others",
        "",
    ] {
        works::<S>(&format!(
            "CREATE TABLE unified.others (key int PRIMARY KEY, id text);
             CREATE PUBLICATION captured_pub {publication}; INSERT INTO unified.others VALUES (1, 'no UUID')"
        ))
        .await;
    }
    works::<S>(&format!("{PARTITIONED}; CREATE PUBLICATION captured_pub FOR TABLE unified.chunks, unified.plain"))
        .await;
    // Made when the identity was the primary key.
    works::<S>(
        "CREATE PUBLICATION captured_pub FOR TABLE unified.chunks (id);
         ALTER TABLE unified.chunks REPLICA IDENTITY FULL",
    )
    .await;
}

async fn a_table_without_an_identity_is_refused_and_the_remedy_helps<S: Server>() {
    let index = "CREATE UNIQUE INDEX other ON unified.chunks (start_char);
        ALTER TABLE unified.chunks ALTER start_char SET NOT NULL, ALTER start_char SET DEFAULT 1 + random() * 1e9";
    for shape in [
        format!("{NO_KEY}; CREATE UNIQUE INDEX one ON unified.chunks (id)"),
        "ALTER TABLE unified.chunks REPLICA IDENTITY NOTHING".to_owned(),
        format!("{index}; ALTER TABLE unified.chunks REPLICA IDENTITY USING INDEX other"),
        format!("{PARTITIONED}; ALTER TABLE unified.p1 REPLICA IDENTITY NOTHING"),
        "ALTER TABLE unified.chunks SET UNLOGGED".to_owned(),
    ] {
        let environment = Environment::shaped::<S>(&shape).await;
        for refused in [
            environment.capture.statements().await.map(drop),
            environment.capture.check().await,
            environment.capture.prepare().await,
            environment.capture.open().await.map(drop),
        ] {
            let fault = refused.unwrap_err();
            assert_eq!(fault.class, FaultClass::Misconfigured, "{shape}: {fault}");
        }
        let made = "SELECT count(*) FROM pg_publication";
        assert_eq!(environment.database.one(made).await.get::<_, i64>(0), 0, "{shape}: something was created");
        let message = environment.capture.check().await.unwrap_err().message;
        let (_, remedy) = message.rsplit_once("; ").unwrap();
        environment.database.meddle(remedy).await;
        environment.capture.prepare().await.unwrap();
        writes_work(&environment, environment.open().await).await;
        environment.leave().await;
    }
}

async fn a_later_alter_table_breaks_writes_until_the_next_heartbeat_at_most<S: Server>() {
    for publish in [Publish::Least, Publish::Whole] {
        let environment = Environment::publishing::<S>(publish).await;
        drop(environment.open().await);
        environment.database.meddle("INSERT INTO unified.chunks (id) VALUES (gen_random_uuid())").await;
        environment.database.meddle("ALTER TABLE unified.chunks REPLICA IDENTITY FULL").await;
        let client = environment.database.client().await;
        let update = "UPDATE unified.chunks SET summary = 'of the application'";
        assert_eq!(client.batch_execute(update).await.is_ok(), publish == Publish::Whole, "{publish:?}");
        environment.capture.heartbeat().await.unwrap();
        client.batch_execute(update).await.unwrap();
        environment.leave().await;
    }
}

async fn a_publication_that_hid_changes_is_a_gap<S: Server>() {
    for harm in [
        "DROP PUBLICATION captured_pub",
        "ALTER PUBLICATION captured_pub DROP TABLE unified.chunks",
        "ALTER PUBLICATION captured_pub SET (publish = 'insert')",
    ] {
        let environment = Environment::publishing::<S>(Publish::Least).await;
        let opened = environment.open().await;
        assert_eq!(opened.gap, None);
        environment.capture.heartbeat().await.unwrap();
        environment.database.meddle(harm).await;
        environment.database.meddle("INSERT INTO unified.chunks (id) VALUES (gen_random_uuid())").await;
        let fault = environment.capture.heartbeat().await.unwrap_err();
        assert!(fault.message.contains("publication"), "{harm}: {fault}");
        drop(opened);
        let opened = environment.open().await;
        assert_eq!(opened.gap, Some(Gap::Unpublished), "{harm}");
        opened.positions.close_gap().await.unwrap();
        writes_work(&environment, opened).await;
        environment.leave().await;
    }
}

macro_rules! on {
    ($name:ident, $server:ident, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test::<super::$server>().await;
                }
            )*
        }
    };
    ($name:ident, $server:ident) => {
        on!($name, $server, [
            every_shape_with_an_identity_works,
            every_existing_publication_is_made_to_work,
            a_table_without_an_identity_is_refused_and_the_remedy_helps,
            a_later_alter_table_breaks_writes_until_the_next_heartbeat_at_most,
            a_publication_that_hid_changes_is_a_gap,
        ]);
    };
}

on!(on_15, Pg15);
on!(on_18, Pg18);
