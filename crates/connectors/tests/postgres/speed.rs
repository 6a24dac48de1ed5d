//! A throughput measurement, ignored by default.

use std::sync::Arc;
use std::time::Instant;

use chunk_sync_connectors::postgres::PostgresRecords;
use chunk_sync_engine::ports::{Commit, CurrentState};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::{Record, State, Target};
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{changed, states, version};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18};

const ROWS: usize = 10_240;
const BATCH: usize = 256;

/// Run it with the release profile:
/// `cargo test --release -p chunk-sync-connectors --features live --test postgres rows_a_second -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rows_a_second() {
    let new = states(ROWS);
    let vectors: Vec<_> = new.iter().map(|state| changed(state, "the new content of the chunk")).collect();
    let rest: Vec<_> = vectors.iter().map(other_summary).collect();
    let (old, extended) = (Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await);
    for (server, database) in [("15, real[]", old), ("18, vector", extended)] {
        let records = database.prepared().await;
        for at_once in [1, 4] {
            database.meddle("TRUNCATE unified.chunks, chunk_sync.records, chunk_sync.outbox").await;
            let merges = [("new", &new), ("new vectors", &vectors), ("same vectors", &rest)];
            for (number, (what, states)) in (1..).zip(merges) {
                let rows = per_second(merge_all(&records, states, number, at_once)).await;
                eprintln!("{server}: {what}, {at_once} at once: {rows:.0} rows/s");
            }
        }
        eprintln!("{server}: scan: {:.0} rows/s", per_second(scan(&records)).await);
        database.meddle("CREATE TABLE bare (id uuid PRIMARY KEY, content text, vector real[], record bytea)").await;
        eprintln!("{server}: bare inserts of as much: {:.0} rows/s", per_second(bare(&database, &new)).await);
    }
}

fn other_summary(state: &Arc<State>) -> Arc<State> {
    let mut state = State::clone(state);
    state.chunk.summary = Some("another summary".to_owned());
    Arc::new(state)
}

async fn per_second(work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    ROWS as f64 / begun.elapsed().as_secs_f64()
}

async fn merge_all(records: &PostgresRecords, states: &[Arc<State>], number: u64, at_once: usize) {
    let batches: Vec<_> = states.chunks(BATCH).collect();
    for together in batches.chunks(at_once) {
        let merges = together.iter().map(|batch| merge(records, batch, number));
        futures::future::join_all(merges).await;
    }
}

/// A merge with a trivial decision, so that only the store is measured.
async fn merge(records: &PostgresRecords, states: &[Arc<State>], number: u64) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let decide = |held: Vec<CurrentState>| {
        assert!(held.iter().all(|held| held.state.is_some() == (number > 1)));
        states
            .iter()
            .map(|state| Commit {
                id: state.chunk.id,
                record: Record { version: version(number), ..Record::default() },
                state: Some(Arc::clone(state)),
                row_changed: true,
                row: Some(row_fingerprint(state).digest()),
                outbox: vec![Target::Qdrant, Target::Neo4j],
                decided: Vec::new(),
                conflicts: Vec::new(),
                absence: chunk_sync_engine::ports::NoteChange::Keep,
            })
            .collect()
    };
    records.merge(&ids, &decide).await.unwrap();
}

async fn scan(records: &PostgresRecords) {
    let (mut after, mut read) = (None, 0);
    loop {
        let page = records.scan_fingerprints(after, 1000).await.unwrap();
        after = page.last().map(|seen| seen.id).or(after);
        read += page.len();
        if page.len() < 1000 {
            break;
        }
    }
    assert_eq!(read, ROWS);
}

/// Plain pipelined inserts, one transaction per batch: the upper bound to compare with.
async fn bare(database: &Database, states: &[Arc<State>]) {
    let mut client = database.client().await;
    let statement = client.prepare("INSERT INTO bare VALUES ($1, $2, $3, $4)").await.unwrap();
    for batch in states.chunks(BATCH) {
        let transaction = client.transaction().await.unwrap();
        let rows = batch.iter().map(|state| async {
            let vector = state.chunk.embeddings.dense[0].vector.to_vec();
            let record = vec![7_u8; 500];
            let row: [&(dyn ToSql + Sync); 4] = [&state.chunk.id, &state.chunk.content, &vector, &record];
            transaction.execute(&statement, &row).await.unwrap()
        });
        futures::future::join_all(rows).await;
        transaction.commit().await.unwrap();
    }
}
