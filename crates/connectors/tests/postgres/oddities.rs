//! Rows with values that no chunk encodes to: how merges read and keep them.

use std::sync::{Arc, Mutex};

use chunk_sync_connectors::postgres::PostgresRecords;
use chunk_sync_engine::ports::{Applied, Commit, CurrentState, SystemOfRecord as _};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::{Record, State, Time};
use chunk_sync_testkit::merging::{Merging as _, commit};
use chunk_sync_testkit::states::{awkward, state, version, write};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18};

/// Merges the state that `change` makes of the row; returns what the merge was given.
async fn merge(
    records: &PostgresRecords,
    id: Uuid,
    number: u64,
    change: impl Fn(&mut State) + Sync + Send,
) -> CurrentState {
    let found = Mutex::new(None);
    let decide = |mut held: Vec<CurrentState>| {
        let held = held.remove(0);
        let mut state = State::clone(held.state.as_ref().unwrap());
        change(&mut state);
        let row_changed = state != **held.state.as_ref().unwrap();
        *found.lock().unwrap() = Some(held);
        let record = Record { version: version(number), ..Record::default() };
        vec![Commit { row_changed, ..commit(id, record, Some(Arc::new(state))) }]
    };
    records.merge(&[id], &decide).await.unwrap();
    found.into_inner().unwrap().unwrap()
}

async fn row(records: &PostgresRecords, id: Uuid) -> Arc<State> {
    records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap()
}

#[tokio::test]
async fn a_value_that_no_chunk_can_hold_is_kept_with_its_neighbours() {
    let related = awkward().into_iter().find(|state| !state.chunk.graph.relationships.is_empty()).unwrap();
    let id = related.chunk.id;
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let (old, new) = (Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await);
    for (database, column) in [(&old, "jsonb"), (&new, "json")] {
        let records = database.prepared().await;
        database
            .meddle(&format!("ALTER TABLE unified.chunks ALTER metadata DROP DEFAULT, ALTER metadata TYPE {column}"))
            .await;
        records.prepare().await.unwrap();
        assert!(matches!(records.apply(&[write(&related, 1)]).await[..], [Applied::Written]));
        let theirs = format!("'{{\"huge\": 1e400, \"deep\": {deep}, \"fine\": 1}}'");
        database
            .meddle(&format!("UPDATE unified.chunks SET metadata = (metadata::jsonb || {theirs}::jsonb)::{column}"))
            .await;
        merge(&records, id, 2, |state| state.chunk.summary = Some("another".to_owned())).await;
        let mut expected = State::clone(&related);
        expected.chunk.summary = Some("another".to_owned());
        let huge = format!("1{}", "0".repeat(400));
        for (key, value) in [("huge", huge.into()), ("deep", deep.as_str().into()), ("fine", 1.into())] {
            expected.chunk.metadata.extra.insert(key.to_owned(), value);
        }
        assert_eq!(*row(&records, id).await, expected, "{column}");
    }
}

#[tokio::test]
async fn the_first_merge_gives_times_to_a_row_without_times() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let id = Uuid::max();
    let insert = "INSERT INTO unified.chunks (id, content, created_at, updated_at) VALUES";
    database.meddle(&format!("{insert} ('{id}', 'no times', NULL, NULL)")).await;
    let begun: Time = jiff::Timestamp::now().into();
    let first = merge(&records, id, 1, |_| {}).await.state.unwrap();
    let given = first.chunk.metadata.created_at;
    assert!(given >= begun && first.chunk.metadata.updated_at == given, "{:?}", first.chunk.metadata);
    // From then on the row holds the times: later reads do not see a change by another program.
    assert_eq!(*row(&records, id).await, *first);
    let again = merge(&records, id, 2, |_| {}).await;
    assert_eq!(again.row, again.state.as_deref().map(|state| row_fingerprint(state).digest()));
    assert_eq!(again.state, Some(first));
}

#[tokio::test]
async fn removed_times_are_replaced_by_the_current_time_and_not_by_1970() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    let state = awkward().remove(0);
    let (id, made) = (state.chunk.id, state.chunk.metadata.created_at);
    records.apply(&[write(&state, 1)]).await;
    database.meddle("UPDATE unified.chunks SET created_at = NULL, updated_at = 'infinity'").await;
    let begun: Time = jiff::Timestamp::now().into();
    let found = merge(&records, id, 2, |_| {}).await.state.unwrap().chunk.metadata.clone();
    assert!(found.created_at >= begun.max(made) && found.updated_at >= begun, "{found:?}");
}

#[tokio::test]
async fn the_shipped_samples_come_back_unchanged() {
    for database in [Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await] {
        let records = database.prepared().await;
        let samples: Vec<_> = chunk_sync_samples::samples().iter().map(state).collect();
        let writes: Vec<_> = samples.iter().map(|state| write(state, 1)).collect();
        assert!(records.apply(&writes).await.iter().all(Applied::is_durable));
        let ids: Vec<_> = samples.iter().map(|state| state.chunk.id).collect();
        for (sample, row) in samples.iter().zip(records.rows_of(&ids).await.unwrap()) {
            assert_eq!(row.unwrap().state.as_ref(), Some(sample));
        }
    }
}
