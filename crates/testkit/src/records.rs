//! What the system of record keeps.

use std::sync::Arc;

use chunk_sync_engine::ports::{Commit, Debt, Held, Records};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::merge::{Change, merge};
use chunk_sync_model::{Event, EventType, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use crate::Fixture;
use crate::states::{states, version};

type Port = dyn Records;

/// What merging an event into what is held comes to.
fn merged(held: Held, event: &Event) -> Commit {
    let merged = merge(held.record, held.state, &Change::from(event));
    commit(event.chunk_id(), merged.record, merged.state)
}

fn commit(id: Uuid, record: Record, state: Option<Arc<State>>) -> Commit {
    let row = state.as_ref().map(|state| row_fingerprint(state).digest());
    Commit { id, record, state, row_changed: true, row, owed: Vec::new() }
}

fn event(state: &State) -> Event {
    Event::of_chunk(state.chunk.clone())
}

async fn put(records: &Port, states: &[Arc<State>]) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let decide =
        |held: Vec<Held>| states.iter().zip(held).map(|(state, held)| merged(held, &event(state))).collect::<Vec<_>>();
    records.merge(&ids, &decide).await.unwrap();
}

async fn remove(records: &Port, state: &State) {
    let mut event = event(state);
    event.kind = EventType::Delete;
    event.event_id = Uuid::new_v5(&event.event_id, b"deleted");
    event.timestamp = Time::from_micros(state.chunk.metadata.updated_at.micros() + 1);
    event.body = chunk_sync_model::Body::Id(state.chunk.id);
    let id = state.chunk.id;
    records.merge(&[id], &|held| held.into_iter().map(|held| merged(held, &event)).collect()).await.unwrap();
}

/// What a merge of this chunk would find.
async fn held(records: &Port, id: Uuid) -> Held {
    let found = std::sync::Mutex::new(None);
    let decide = |mut held: Vec<Held>| {
        *found.lock().unwrap() = held.pop();
        Vec::new()
    };
    records.merge(&[id], &decide).await.unwrap();
    found.into_inner().unwrap().unwrap()
}

pub async fn a_merge_finds_what_the_last_one_left<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    let nothing = held(&*records, state.chunk.id).await;
    assert!(nothing.record.is_none() && nothing.state.is_none() && nothing.row.is_none());
    let expected = merged(nothing, &event(&state));
    put(&*records, std::slice::from_ref(&state)).await;
    let found = held(&*records, state.chunk.id).await;
    assert_eq!((found.record.as_ref(), &found.state), (Some(&expected.record), &expected.state));
    assert_eq!(found.row, expected.row);
    assert_eq!(found.state.map(|state| row_fingerprint(&state).digest()), expected.row);
}

pub async fn a_tombstone_stays_when_the_row_goes<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(2));
    put(&*records, &states).await;
    remove(&*records, &states[0]).await;
    let id = states[0].chunk.id;
    let row = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((row.lives, row.state.is_none()), (Some(false), true));
    assert!(row.version > SyncVersion::default());
    let listed = records.rows(None, 10).await.unwrap();
    assert_eq!(listed.iter().filter(|row| row.lives == Some(true)).count(), 1);
    assert!(listed.iter().any(|row| row.id == id));
    assert_eq!(records.counts().await.unwrap().chunks, 1);
    assert!(held(&*records, id).await.row.is_none());
}

pub async fn a_record_changes_without_its_row<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    put(&*records, std::slice::from_ref(&state)).await;
    let decide = |held: Vec<Held>| {
        let held = held.into_iter().next().unwrap();
        let mut record = held.record.unwrap();
        record.version = SyncVersion::MAX;
        // What is not said to have changed is not written, whatever it is.
        vec![Commit { row_changed: false, row: held.row, ..commit(state.chunk.id, record, None) }]
    };
    records.merge(&[state.chunk.id], &decide).await.unwrap();
    let found = held(&*records, state.chunk.id).await;
    assert_eq!(found.record.unwrap().version, SyncVersion::MAX);
    assert!(found.state.is_some() && found.row.is_some());
}

pub async fn rows_are_paged_in_order_of_id<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(23));
    assert!(records.rows(None, 5).await.unwrap().is_empty());
    put(&*records, &states).await;
    remove(&*records, &states[7]).await;
    let mut ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    ids.sort_unstable();
    for size in [1, 5, 23, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = records.rows(after, size).await.unwrap();
            after = page.last().map(|row| row.id).or(after);
            let ended = page.len() < size;
            seen.extend(page.into_iter().map(|row| row.id));
            if ended {
                break;
            }
        }
        assert_eq!(seen, ids, "pages of {size}");
    }
    let asked = [ids[3], Uuid::nil(), ids[1]];
    let found = records.rows_of(&asked).await.unwrap();
    assert_eq!(
        found.iter().map(|row| row.as_ref().map(|row| row.id)).collect::<Vec<_>>(),
        [Some(ids[3]), None, Some(ids[1])]
    );
}

pub async fn merges_of_one_chunk_happen_one_after_the_other<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::max());
    let merges = (0..16).map(|_| {
        let records = Arc::clone(&records);
        tokio::spawn(async move {
            let decide = |held: Vec<Held>| {
                let mut record = held.into_iter().next().unwrap().record.unwrap_or_default();
                record.version = SyncVersion::new(record.version.get() + 1);
                vec![Commit { row_changed: false, ..commit(id, record, None) }]
            };
            records.merge(&[id], &decide).await.unwrap();
        })
    });
    for merge in merges.collect::<Vec<_>>() {
        merge.await.unwrap();
    }
    assert_eq!(held(&*records, id).await.record.unwrap().version, version(16));
}

fn debt(number: u128, target: Target, owed: u64) -> Debt {
    Debt { id: Uuid::from_u128(number), target, version: version(owed) }
}

pub async fn debts_are_paid_oldest_first<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let debts: Vec<_> = [9, 2, 5].map(|number| debt(number, Target::Neo4j, 1)).into();
    for debt in &debts {
        records.owe(std::slice::from_ref(debt)).await.unwrap();
    }
    records.owe(&[debt(1, Target::Qdrant, 1)]).await.unwrap();
    assert_eq!(records.debts(Target::Neo4j, 2).await.unwrap(), debts[..2]);
    records.paid(&debts[..1]).await.unwrap();
    assert_eq!(records.debts(Target::Neo4j, 10).await.unwrap(), debts[1..]);
    let counts = records.debt_counts().await.unwrap();
    let count = |target| counts.get(&target).copied().unwrap_or_default();
    assert_eq!((count(Target::Neo4j), count(Target::Qdrant), count(Target::Postgres)), (2, 1, 0));
}

pub async fn a_debt_keeps_its_greatest_version<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    for owed in [4, 7, 5] {
        records.owe(&[debt(1, Target::Qdrant, owed)]).await.unwrap();
    }
    assert_eq!(records.debts(Target::Qdrant, 10).await.unwrap(), [debt(1, Target::Qdrant, 7)]);
    // What was paid is older than what is owed by now.
    records.paid(&[debt(1, Target::Qdrant, 6)]).await.unwrap();
    assert_eq!(records.debts(Target::Qdrant, 10).await.unwrap().len(), 1);
    records.paid(&[debt(1, Target::Qdrant, 7)]).await.unwrap();
    assert!(records.debts(Target::Qdrant, 10).await.unwrap().is_empty());
}

pub async fn what_is_owed_is_recorded_with_the_row<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    let id = state.chunk.id;
    let decide = |held: Vec<Held>| {
        let commit = merged(held.into_iter().next().unwrap(), &event(&state));
        vec![Commit { owed: vec![Target::Neo4j, Target::Qdrant], ..commit }]
    };
    records.merge(&[id], &decide).await.unwrap();
    let version = held(&*records, id).await.record.unwrap().version;
    for target in [Target::Neo4j, Target::Qdrant] {
        assert_eq!(records.debts(target, 9).await.unwrap(), [Debt { id, target, version }]);
    }
}

pub async fn records_and_debts_survive_a_restart<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let state = states(1).remove(0);
    put(&*fixture.port(), std::slice::from_ref(&state)).await;
    fixture.port().owe(&[debt(3, Target::Neo4j, 8)]).await.unwrap();
    let before = held(&*fixture.port(), state.chunk.id).await;
    fixture.reopen().await;
    let after = held(&*fixture.port(), state.chunk.id).await;
    assert_eq!((after.record, after.state, after.row), (before.record, before.state, before.row));
    assert_eq!(fixture.port().debts(Target::Neo4j, 9).await.unwrap(), [debt(3, Target::Neo4j, 8)]);
}

pub async fn hundreds_are_merged_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(500));
    put(&*records, &states).await;
    put(&*records, &states).await;
    assert_eq!(records.counts().await.unwrap().chunks, 500);
    let rows = records.rows(None, 1000).await.unwrap();
    assert!(rows.iter().all(|row| row.lives == Some(true) && row.state.is_some()) && rows.len() == 500);
}
