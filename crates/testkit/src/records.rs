//! Contract of the system of record.

use std::sync::Arc;

use chunk_sync_engine::ports::{Commit, CurrentState, Fence, MergeScope, READ_BYTES, Records, each_record, each_row};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::merge::{Change, Strategies, merge};
use chunk_sync_model::{Event, EventType, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use crate::Fixture;
use crate::merging::{Merging as _, commit};
use crate::states::{all, changed, rotated, states, version};

mod absence;
mod conflicts;
mod pending_writes;
mod transactions;
mod upkeep;

pub use absence::*;
pub use conflicts::*;
pub use pending_writes::*;
pub use transactions::*;
pub use upkeep::*;

use pending_writes::pending_write;

type Port = dyn Records;

/// The commit that merging an event into the held row produces.
pub(crate) fn merged(held: CurrentState, event: &Event) -> Commit {
    let merged = merge(held.record, held.state, &Change::from(event), &Strategies::default());
    commit(event.chunk_id(), merged.record, merged.state)
}

fn event(state: &State) -> Event {
    Event::of_chunk(state.chunk.clone())
}

async fn put(records: &Port, states: &[Arc<State>]) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let decide = |held: Vec<CurrentState>| {
        states.iter().zip(held).map(|(state, held)| merged(held, &event(state))).collect::<Vec<_>>()
    };
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

/// What a merge of this chunk reads; a read without locks returns the same.
async fn held(records: &Port, id: Uuid) -> CurrentState {
    let held = records.begin(scope(&[id])).await.unwrap().current().remove(0);
    let read = records.current(&[id]).await.unwrap().remove(0);
    assert_eq!((&read.record, &read.state, read.row), (&held.record, &held.state, held.row));
    held
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

/// Merges one state for each chunk under that version, whatever is held.
async fn set(records: &Port, states: &[Arc<State>], number: u64) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let one = |(state, held): (&Arc<State>, CurrentState)| {
        let record = Record { version: version(number), ..held.record.unwrap_or_default() };
        commit(state.chunk.id, record, Some(Arc::clone(state)))
    };
    records.merge(&ids, &|held| states.iter().zip(held).map(one).collect()).await.unwrap();
}

/// Asserts that each chunk is held with exactly this state and version.
async fn are_held(records: &Port, states: &[Arc<State>], number: u64) {
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let rows = records.rows_of(&ids).await.unwrap();
    for (wanted, row) in states.iter().zip(rows) {
        let row = row.unwrap();
        assert_eq!((row.id, row.version), (wanted.chunk.id, version(number)));
        assert_eq!(row.state.as_ref(), Some(wanted));
        let held = held(records, wanted.chunk.id).await;
        assert_eq!((held.state.as_ref(), held.record.unwrap().version), (Some(wanted), version(number)));
        assert_eq!(held.row, Some(row_fingerprint(wanted).digest()));
    }
}

/// Equal to the last bit: a row that reads back differently than written would be taken for a foreign change.
pub async fn every_state_comes_back_from_a_merge_as_it_was<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let states = all();
    set(&*fixture.port(), &states, 3).await;
    are_held(&*fixture.port(), &states, 3).await;
    let others = rotated(&states);
    set(&*fixture.port(), &others, 4).await;
    are_held(&*fixture.port(), &others, 4).await;
    fixture.reopen().await;
    are_held(&*fixture.port(), &others, 4).await;
}

pub async fn what_is_held_comes_in_the_order_asked<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(9));
    put(&*records, &states[..6]).await;
    let ids: Vec<Uuid> = [7, 2, 0, 8, 5, 1].map(|i: usize| states[i].chunk.id).into();
    let wanted: Vec<_> =
        ids.iter().map(|id| states[..6].iter().any(|state| state.chunk.id == *id).then_some(*id)).collect();
    let chunks = |held: Vec<CurrentState>| -> Vec<Option<Uuid>> {
        held.into_iter().map(|held| held.state.map(|state| state.chunk.id)).collect()
    };
    let mut transaction = records.begin(scope(&ids)).await.unwrap();
    assert_eq!(chunks(transaction.current()), wanted);
    assert!(transaction.current().is_empty(), "the states are moved out");
    drop(transaction);
    assert_eq!(chunks(records.current(&ids).await.unwrap()), wanted);
}

/// A transaction without a fence that finishes no entries.
fn scope(ids: &[Uuid]) -> MergeScope<'_> {
    const NONE: &Fence = &Fence { lease: None, stores: None };
    MergeScope { ids, fence: NONE, finished: &[] }
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
    let listed = records.rows(None, 10).await.unwrap().rows;
    assert_eq!(listed.iter().filter(|row| row.lives == Some(true)).count(), 1);
    assert!(listed.iter().any(|row| row.id == id));
    assert_eq!(records.counts().await.unwrap().chunks, 1);
    assert!(held(&*records, id).await.row.is_none());
}

pub async fn a_deleted_row_can_come_again<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    put(&*records, std::slice::from_ref(&state)).await;
    remove(&*records, &state).await;
    let id = state.chunk.id;
    let gone = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    let mut again = event(&state);
    again.kind = EventType::Create;
    again.event_id = Uuid::new_v5(&again.event_id, b"again");
    again.timestamp = Time::from_micros(state.chunk.metadata.updated_at.micros() + 2);
    records.merge(&[id], &|held| held.into_iter().map(|held| merged(held, &again)).collect()).await.unwrap();
    let row = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((row.lives, row.state.as_ref()), (Some(true), Some(&state)));
    assert!(row.version > gone.version);
    assert!(held(&*records, id).await.row.is_some());
    assert_eq!(records.counts().await.unwrap().chunks, 1);
}

pub async fn a_record_changes_without_its_row<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    put(&*records, std::slice::from_ref(&state)).await;
    let decide = |held: Vec<CurrentState>| {
        let held = held.into_iter().next().unwrap();
        let mut record = held.record.unwrap();
        record.version = SyncVersion::MAX;
        // A row that is not marked as changed is not written, whatever the commit holds.
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
    assert!(records.rows(None, 5).await.unwrap().rows.is_empty());
    put(&*records, &states).await;
    remove(&*records, &states[7]).await;
    let mut ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    ids.sort_unstable();
    for size in [1, 5, 23, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = records.rows(after, size).await.unwrap();
            after = page.rows.last().map(|row| row.id).or(after);
            assert!(seen.len() <= ids.len(), "pages of {size} do not end");
            seen.extend(page.rows.into_iter().map(|row| row.id));
            if page.is_last {
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

pub async fn reads_are_bounded_by_bytes<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let text = "a line of a long document\n".repeat(READ_BYTES / 60);
    let states: Vec<Arc<State>> = states(5).iter().map(|state| changed(state, &text)).collect();
    let records = fixture.port();
    for state in &states {
        put(&*records, std::slice::from_ref(state)).await;
    }
    let mut ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    ids.sort_unstable();
    // Each has a little less than half of what is read at once.
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = records.rows(after, 100).await.unwrap();
        assert!(page.rows.len() <= 2, "{} rows at once", page.rows.len());
        after = page.rows.last().map(|row| row.id).or(after);
        seen.extend(page.rows.iter().map(|row| row.id));
        if page.is_last {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(records.rows_of(&ids).await.unwrap().len(), 2);
    assert_eq!(records.current(&ids).await.unwrap().len(), 2);
    let read = each_row(&*records, &ids, |i, row| (ids[i], row.unwrap().id)).await.unwrap();
    assert_eq!(read, ids.iter().map(|id| (*id, *id)).collect::<Vec<_>>());
    assert_eq!(each_record(&*records, &ids).await.unwrap().into_iter().flatten().count(), 5);
}

pub async fn records_and_outbox_survive_a_restart<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    let state = states(1).remove(0);
    put(&*fixture.port(), std::slice::from_ref(&state)).await;
    fixture.port().enqueue(&[pending_write(3, Target::Neo4j, 8)]).await.unwrap();
    let before = held(&*fixture.port(), state.chunk.id).await;
    fixture.reopen().await;
    let after = held(&*fixture.port(), state.chunk.id).await;
    assert_eq!((after.record, after.state, after.row), (before.record, before.state, before.row));
    assert_eq!(fixture.port().pending_writes(Target::Neo4j, 9).await.unwrap(), [pending_write(3, Target::Neo4j, 8)]);
}

pub async fn hundreds_are_merged_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(500));
    put(&*records, &states).await;
    put(&*records, &states).await;
    assert_eq!(records.counts().await.unwrap().chunks, 500);
    let rows = records.rows(None, 1000).await.unwrap().rows;
    assert!(rows.iter().all(|row| row.lives == Some(true) && row.state.is_some()) && rows.len() == 500);
}

pub async fn asking_for_nothing_is_harmless<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(1));
    put(&*records, &states).await;
    records
        .merge(&[], &|held| {
            assert!(held.is_empty());
            Vec::new()
        })
        .await
        .unwrap();
    assert!(records.rows_of(&[]).await.unwrap().is_empty());
    records.enqueue(&[]).await.unwrap();
    records.drained(&[]).await.unwrap();
    assert!(records.pending_writes(Target::Neo4j, 9).await.unwrap().is_empty());
    assert_eq!(records.rows(None, 9).await.unwrap().rows.len(), 1);
}
