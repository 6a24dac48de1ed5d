//! The table on record, on real servers: everything that is another table raises a suspicion, which stops deletions.

use std::collections::BTreeSet;

use chunk_sync_connectors::postgres::PostgresRecords;
use chunk_sync_engine::ports::{
    AbsenceLog, Applied, Approval, FaultClass, Fence, Installation, Installed, RecordedTable, StoreSet, Suspicion,
    SystemOfRecord, Verdict,
};
use chunk_sync_model::{SyncVersion, Time};
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{states, write};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Server};

async fn recorded<S: Server>() -> (Database, PostgresRecords) {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    records.record_table(false).await.unwrap();
    assert_eq!(records.check_table().await.unwrap(), RecordedTable::Same);
    (database, records)
}

/// The text of the suspicion that the table raises; no deletion is approved with it, not even by an operator.
async fn suspicion(records: &PostgresRecords) -> String {
    let RecordedTable::Suspect(suspicion) = records.check_table().await.unwrap() else {
        panic!("the table raises no suspicion");
    };
    let approval = Approval { at: Time::from_micros(1), max_deletes: None, forced: true };
    assert_eq!(records.approve(approval).await.unwrap(), Verdict::Suspended(suspicion.clone()));
    suspicion.text
}

async fn adopted(records: &PostgresRecords) {
    records.record_table(false).await.unwrap();
    assert!(matches!(records.check_table().await.unwrap(), RecordedTable::Suspect(_)), "only adoption accepts it");
    records.record_table(true).await.unwrap();
    assert_eq!(records.check_table().await.unwrap(), RecordedTable::Same);
    assert_eq!(records.suspicion().await.unwrap(), None);
}

#[tokio::test]
async fn a_swapped_or_dropped_table_is_not_the_one_on_record() {
    for (database, records) in [recorded::<Pg15>().await, recorded::<Pg18>().await] {
        database
            .meddle(
                "CREATE TABLE unified.chunks_new (LIKE unified.chunks INCLUDING ALL);
                 BEGIN;
                 ALTER TABLE unified.chunks RENAME TO chunks_old;
                 ALTER TABLE unified.chunks_new RENAME TO chunks;
                 COMMIT",
            )
            .await;
        assert!(suspicion(&records).await.contains("is another table"));
        adopted(&records).await;
        database.meddle("DROP TABLE unified.chunks").await;
        assert!(suspicion(&records).await.contains("is gone"));
        assert!(records.rows(None, 1).await.unwrap_err().message.contains("does not exist"));
        database.meddle("CREATE VIEW unified.chunks AS SELECT * FROM unified.chunks_old").await;
        assert!(suspicion(&records).await.contains("of kind v"));
    }
}

/// Without this, a chunk that is created while another table has the name is lost once the table on record has it again.
#[tokio::test]
async fn no_row_is_written_into_another_table_until_it_is_adopted() {
    for (database, records) in [recorded::<Pg15>().await, recorded::<Pg18>().await] {
        let swap = |from: &str, to: &str| {
            format!(
                "BEGIN; ALTER TABLE unified.chunks RENAME TO {from}; ALTER TABLE unified.{to} RENAME TO chunks; COMMIT"
            )
        };
        let state = states(1).remove(0);
        let written = async |number| records.apply(&[write(&state, number)]).await.remove(0);
        database.meddle("CREATE TABLE unified.chunks_new (LIKE unified.chunks INCLUDING ALL)").await;
        database.meddle(&swap("chunks_old", "chunks_new")).await;
        let Applied::Failed(refused) = written(1).await else { panic!("written into another table") };
        assert_eq!(refused.class, FaultClass::Busy, "{refused}");
        assert!(refused.message.contains("another table") && refused.message.contains("--adopt"), "{refused}");
        assert_eq!(database.one("SELECT count(*) FROM unified.chunks").await.get::<_, i64>(0), 0);
        // The table on record has its name back.
        database.meddle(&swap("chunks_new", "chunks_old")).await;
        assert!(written(2).await.is_durable());
        database.meddle(&swap("chunks_old", "chunks_new")).await;
        records.record_table(true).await.unwrap();
        assert!(written(3).await.is_durable());
    }
}

#[tokio::test]
async fn a_detached_partition_is_a_suspicion_and_an_attached_one_is_carried() {
    let (database, records) = recorded::<Pg15>().await;
    database
        .meddle(
            "ALTER TABLE unified.chunks RENAME TO plain;
             CREATE TABLE unified.chunks (LIKE unified.plain INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY HASH (id);
             CREATE TABLE unified.p0 PARTITION OF unified.chunks FOR VALUES WITH (MODULUS 4, REMAINDER 0)",
        )
        .await;
    adopted(&records).await;
    database
        .meddle("CREATE TABLE unified.p1 PARTITION OF unified.chunks FOR VALUES WITH (MODULUS 2, REMAINDER 1)")
        .await;
    let RecordedTable::NewPartitions(seen) = records.check_table().await.unwrap() else { panic!("p1 is not new") };
    assert_eq!(seen.len(), 2);
    // Attached while the rows of p1 are carried: it is carried next.
    database
        .meddle("CREATE TABLE unified.p2 PARTITION OF unified.chunks FOR VALUES WITH (MODULUS 4, REMAINDER 2)")
        .await;
    records.record_partitions(&seen).await.unwrap();
    let RecordedTable::NewPartitions(seen) = records.check_table().await.unwrap() else { panic!("p2 is not new") };
    records.record_partitions(&seen).await.unwrap();
    assert_eq!(records.check_table().await.unwrap(), RecordedTable::Same);
    database.meddle("ALTER TABLE unified.chunks DETACH PARTITION unified.p0").await;
    assert!(suspicion(&records).await.contains("were detached or dropped"));
    adopted(&records).await;
}

#[tokio::test]
async fn a_copy_of_the_database_is_a_suspicion_and_a_recorded_one_stays() {
    let (database, records) = recorded::<Pg18>().await;
    records.note_heartbeat(Uuid::from_u128(1)).await.unwrap();
    drop(records);
    let copy = database.copied().await;
    let records = copy.records().await;
    assert!(suspicion(&records).await.contains("a copy or a restore"));
    let RecordedTable::Suspect(found) = records.check_table().await.unwrap() else { panic!("no suspicion") };
    records.suspect(&found, &Fence::default()).await.unwrap();
    assert_eq!(records.suspicion().await.unwrap(), Some(found));
    assert!(records.has_heartbeat(Uuid::from_u128(1)).await.unwrap(), "inserted before the copy");
    assert!(!records.has_heartbeat(Uuid::from_u128(2)).await.unwrap(), "inserted after it");
    adopted(&records).await;
}

/// A process that began to look before the adoption would undo it.
#[tokio::test]
async fn a_suspicion_from_before_an_adoption_is_not_recorded_after_it() {
    let (_database, records) = recorded::<Pg18>().await;
    let (stores, filling, floor) = (StoreSet::default(), BTreeSet::new(), SyncVersion::default());
    let installed = Installed { id: Uuid::max(), version: 1, stores, filling, floor };
    records.record(None, &installed).await.unwrap();
    let fence = Fence { lease: None, stores: Some(1) };
    let found = Suspicion { text: "the database was restored".into() };
    records.suspect(&found, &fence).await.unwrap();
    assert_eq!(records.suspicion().await.unwrap(), Some(found.clone()));
    records.record(Some(1), &Installed { version: 2, ..installed }).await.unwrap();
    records.record_table(true).await.unwrap();
    let late = records.suspect(&found, &fence).await.unwrap_err();
    assert!(late.outdated, "{late}");
    assert_eq!(records.suspicion().await.unwrap(), None);
}
