//! Other programs write into the same table.

use std::sync::Mutex;

use chunk_sync_engine::ports::{Applied, CurrentState, FaultClass, SystemOfRecord as _};
use chunk_sync_model::version::Origin;
use chunk_sync_model::{Record, State, SyncVersion, Time};
use chunk_sync_testkit::merging::{Merging as _, commit};
use chunk_sync_testkit::states::{awkward, changed, states, version, write};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18};

#[tokio::test]
async fn a_row_with_nothing_but_an_id_is_read() {
    for database in [Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await] {
        let records = database.prepared().await;
        database.meddle("INSERT INTO unified.chunks (id, content) VALUES (gen_random_uuid(), 'short')").await;
        let nulls = "INSERT INTO unified.chunks (id, metadata, created_at, updated_at, entity_refs, project_id)
            VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', NULL, NULL, 'infinity', '7', gen_random_uuid())";
        database.meddle(nulls).await;
        let rows = records.rows(None, 10).await.unwrap().rows;
        assert!(rows.iter().all(|row| row.lives.is_none() && row.version == SyncVersion::default()));
        let state = |at: usize| rows[at].state.as_ref().unwrap();
        assert_eq!(state(0).chunk.content, "short");
        assert!(state(0).chunk.metadata.created_at > Time::from_micros(0), "the column's default");
        assert_eq!((state(1).chunk.system_origin, state(1).chunk.content.as_str()), (Origin::Claude, ""));
        assert_eq!(state(1).chunk.metadata.updated_at.to_string(), "9999-12-30T21:59:59.999999Z", "infinity");
        // A second read returns the same.
        assert_eq!(records.scan(None, 10).await.unwrap().documents, records.scan(None, 10).await.unwrap().documents);
    }
}

#[tokio::test]
async fn a_row_changed_by_another_program_is_read_as_changed() {
    let database = Database::fresh::<Pg18>().await;
    let records = database.prepared().await;
    let state = states(1).remove(0);
    let id = state.chunk.id;
    records.apply(&[write(&state, 1)]).await;
    database
        .meddle(
            "UPDATE unified.chunks SET content = 'theirs', metadata = metadata || '{\"stars\": 5}', end_line = NULL,
                sparse_vector = '{1:0.5,30522:2}/30522', dense_vector = array_fill(0.5::real, ARRAY[768])",
        )
        .await;
    let read = records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap();
    let mut expected = State::clone(&state);
    expected.chunk.content = "theirs".to_owned();
    expected.chunk.metadata.extra.insert("stars".to_owned(), 5.into());
    expected.chunk.location.end_line = None;
    let embeddings = &mut expected.chunk.embeddings;
    let sparse = embeddings.sparse.as_mut().unwrap();
    (sparse.indices, sparse.values) = (vec![0, 30_521], vec![0.5, 2.0]);
    embeddings.dense[0].vector = vec![0.5; 768].into();
    assert_eq!(*read, expected);
}

#[tokio::test]
async fn a_row_inserted_during_a_merge_is_merged_and_not_overwritten() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let state = states(1).remove(0);
    let id = state.chunk.id;
    let seen = Mutex::new(Vec::new());
    let url = database.url.clone();
    let decide = |held: Vec<CurrentState>| {
        let found = held[0].state.as_ref().map(|state| state.chunk.content.clone());
        let first = seen.lock().unwrap().is_empty();
        seen.lock().unwrap().push(found);
        if first {
            insert_by_another(&url, id);
        }
        vec![commit(id, Record { version: version(3), ..Record::default() }, Some(state.clone()))]
    };
    records.merge(&[id], &decide).await.unwrap();
    assert_eq!(seen.into_inner().unwrap(), [None, Some("theirs".to_owned())]);
    let seen = records.fetch_documents(&[id]).await.unwrap().remove(0).unwrap();
    assert!(seen.document.differing(&records.expect(&state)).is_empty());
}

/// Inserts on another thread, because the decision runs in the runtime of the test.
fn insert_by_another(url: &str, id: Uuid) {
    let url = url.to_owned();
    let inserted = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let sql = "INSERT INTO unified.chunks (id, content) VALUES ($1, 'theirs')";
            client.execute(sql, &[&id]).await.unwrap();
        });
    });
    inserted.join().unwrap();
}

#[tokio::test]
async fn a_merge_waits_for_a_concurrent_writer_and_reads_its_row() {
    let database = Database::fresh::<Pg15>().await;
    let records = std::sync::Arc::new(database.prepared().await);
    let state = states(1).remove(0);
    let id = state.chunk.id;
    records.apply(&[write(&state, 1)]).await;
    let mut other = database.client().await;
    let transaction = other.transaction().await.unwrap();
    transaction.execute("UPDATE unified.chunks SET summary = 'theirs'", &[]).await.unwrap();
    let merge = tokio::spawn({
        let records = records.clone();
        async move {
            let seen = Mutex::new(None);
            let decide = |held: Vec<CurrentState>| {
                *seen.lock().unwrap() = held[0].state.as_ref().and_then(|state| state.chunk.summary.clone());
                Vec::new()
            };
            // It waits for the lock for a short time only; the engine repeats the merge.
            while let Err(fault) = records.merge(&[id], &decide).await {
                assert_eq!(fault.class, FaultClass::Busy, "{fault}");
            }
            seen.into_inner().unwrap()
        }
    });
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.one(waiting).await.get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    transaction.commit().await.unwrap();
    assert_eq!(merge.await.unwrap().as_deref(), Some("theirs"));
}

#[tokio::test]
async fn columns_that_the_service_does_not_know_survive_its_writes() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let mut state = State::clone(&awkward()[0]);
    records.apply(&[write(&state.clone().into(), 1)]).await;
    database.meddle("ALTER TABLE unified.chunks ADD note text").await;
    database.meddle("UPDATE unified.chunks SET note = 'n', legacy_id = 'l', file_extension = 'f'").await;
    state.chunk.content = "something else".to_owned();
    while !records.apply(&[write(&state.clone().into(), 2)]).await[0].is_durable() {}
    let row = database.one("SELECT note || legacy_id || file_extension || content FROM unified.chunks").await;
    assert_eq!(row.get::<_, &str>(0), "nlfsomething else");
}

#[tokio::test]
async fn vectors_that_did_not_change_are_not_written() {
    let database = Database::fresh::<Pg18>().await;
    let records = database.prepared().await;
    let state = states(1).remove(0);
    records.apply(&[write(&state, 1)]).await;
    database
        .meddle(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no new vectors today'; END $$;
             CREATE TRIGGER guard BEFORE UPDATE OF dense_vector, sparse_vector ON unified.chunks
                FOR EACH ROW EXECUTE FUNCTION refuse();",
        )
        .await;
    let mut same = State::clone(&state);
    same.chunk.summary = Some("another".to_owned());
    let applied = records.apply(&[write(&same.into(), 2)]).await;
    assert!(matches!(applied[..], [Applied::Written]), "{applied:?}");
    let applied = records.apply(&[write(&changed(&state, "the new content"), 3)]).await;
    let [Applied::Failed(fault)] = &applied[..] else { panic!("{applied:?}") };
    assert_eq!(fault.class, FaultClass::Rejected);
    assert!(fault.message.contains("no new vectors today (SQLSTATE P0001)"), "{fault}");
}

#[tokio::test]
async fn a_merge_lists_its_rows_before_it_writes_them() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let log = database.client().await;
    let slot = format!("s{}", Uuid::new_v4().simple());
    let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')");
    log.execute(&create, &[]).await.unwrap();
    let states = states(3);
    records.apply(&states.iter().map(|state| write(state, 1)).collect::<Vec<_>>()).await;
    let changes = format!("SELECT data FROM pg_logical_slot_get_changes('{slot}', NULL, NULL)");
    let changes: Vec<String> = log.query(&changes, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    log.execute(&format!("SELECT pg_drop_replication_slot('{slot}')"), &[]).await.unwrap();
    // The server's own work on this database, such as an analyse, is a transaction of its own without changes.
    let list = changes.iter().position(|change| change.starts_with("message:")).unwrap();
    let merge = &changes[list - 1..];
    assert!(merge[0].starts_with("BEGIN"), "{changes:?}");
    assert!(merge[1].starts_with("message: transactional: 1 prefix: chunk_sync, sz: 110 content:"), "{changes:?}");
    assert!(states.iter().all(|state| merge[1].contains(&state.chunk.id.to_string())), "{changes:?}");
    let inserted =
        |changes: &[String]| changes.iter().filter(|change| change.starts_with("table unified.chunks: INSERT")).count();
    assert_eq!((inserted(&changes[..list]), inserted(merge)), (0, 3), "{changes:?}");
}

#[tokio::test]
async fn a_deleted_row_loses_its_further_vectors() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let both = awkward().into_iter().find(|state| state.chunk.embeddings.dense_alternative.is_some()).unwrap();
    records.apply(&[write(&both, 1)]).await;
    let count = "SELECT count(*) FROM chunk_sync.embeddings";
    assert_eq!(database.one(count).await.get::<_, i64>(0), 1);
    records.apply(&[chunk_sync_testkit::states::delete(both.chunk.id, 2)]).await;
    assert_eq!(database.one(count).await.get::<_, i64>(0), 0);
}
