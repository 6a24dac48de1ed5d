//! Contract of merges that are dropped, abandoned or run at the same time.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Commit, Committed, CurrentState, Fault, FaultClass, MergeTransaction};
use chunk_sync_model::State;
use uuid::Uuid;

use super::{Port, are_held, held, put, scope, set};
use crate::Fixture;
use crate::merging::{Merging as _, commit};
use crate::states::{states, version};

pub async fn a_dropped_merge_writes_nothing_and_holds_no_lock<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(3));
    put(&*records, &states[..2]).await;
    let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
    let after = async {
        for _ in 0..3 {
            drop(records.begin(scope(&ids)).await.unwrap());
        }
        set(&*records, &states, 7).await;
    };
    tokio::time::timeout(Duration::from_secs(10), after).await.expect("a dropped merge holds a lock");
    are_held(&*records, &states, 7).await;
}

/// What was read is what is replaced: nothing comes between reading and writing.
pub async fn a_merge_keeps_others_out_until_it_commits<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::max());
    let mut transaction = records.begin(scope(&[id])).await.unwrap();
    let beside = fixture.port();
    let waiting = tokio::spawn(async move {
        beside.merge(&[id], &|held| counted_up(&[id], held)).await.unwrap();
    });
    tokio::task::yield_now().await;
    let commits = counted_up(&[id], transaction.current());
    assert_eq!(transaction.commit(commits).await.unwrap(), Committed::Durable);
    waiting.await.unwrap();
    assert_eq!(held(&*records, id).await.record.unwrap().version, version(2));
}

pub async fn merges_of_one_chunk_happen_one_after_the_other<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, id) = (fixture.port(), Uuid::max());
    let merges = (0..16).map(|_| {
        let records = Arc::clone(&records);
        tokio::spawn(async move {
            records.merge(&[id], &|held| counted_up(&[id], held)).await.unwrap();
        })
    });
    for merge in merges.collect::<Vec<_>>() {
        merge.await.unwrap();
    }
    assert_eq!(held(&*records, id).await.record.unwrap().version, version(16));
}

/// Increments the version in the record of every chunk.
pub(super) fn counted_up(ids: &[Uuid], held: Vec<CurrentState>) -> Vec<Commit> {
    let up = |(id, held): (&Uuid, CurrentState)| {
        let mut record = held.record.unwrap_or_default();
        record.version = version(record.version.get() + 1);
        Commit { row_changed: false, ..commit(*id, record, None) }
    };
    ids.iter().zip(held).map(up).collect()
}

pub async fn merges_that_share_chunks_the_other_way_round_all_happen<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let ids: Vec<Uuid> = states(10).iter().map(|state| state.chunk.id).collect();
    let merges = (0..12).map(|i| {
        let (records, mut ids) = (fixture.port(), ids.clone());
        match i % 3 {
            0 => {}
            1 => ids.reverse(),
            _ => ids.rotate_left(i % 10),
        }
        tokio::spawn(async move { records.merge(&ids, &|held| counted_up(&ids, held)).await })
    });
    for merge in merges.collect::<Vec<_>>() {
        merge.await.unwrap().unwrap();
    }
    for row in fixture.port().rows_of(&ids).await.unwrap() {
        assert_eq!(row.unwrap().version, version(12));
    }
}

/// The caller may be dropped at any moment; nothing may be left half done, and nothing locked.
pub async fn an_abandoned_merge_happened_wholly_or_not_at_all<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, states) = (fixture.port(), states(12 * 20));
    for (round, states) in states.chunks(20).enumerate() {
        let limit = Duration::from_micros(50 << round);
        let abandoned = tokio::time::timeout(limit, set(&*records, states, 1)).await.is_err();
        // Read under the locks of a merge, so that a merge in progress has ended.
        let ids: Vec<Uuid> = states.iter().map(|state| state.chunk.id).collect();
        let found = begin_after_a_loss(&*records, &ids).await.unwrap().current();
        let happened = found[0].record.is_some();
        assert!(happened || abandoned, "a merge that was answered is lost");
        for (held, state) in found.iter().zip(states) {
            assert_eq!((held.record.is_some(), held.row.is_some()), (happened, happened), "given up after {limit:?}");
            assert_eq!(held.state.as_ref(), happened.then_some(state), "given up after {limit:?}");
        }
        set(&*records, states, 2).await;
        are_held(&*records, states, 2).await;
    }
}

/// Begins a merge after clients were dropped. PgBouncer may give a dropped client's connection, with an answer still to
/// come, to the next one: for that one the connection is lost, and it connects again, as every caller does. There may be
/// several such connections.
async fn begin_after_a_loss<'a>(records: &'a Port, ids: &'a [Uuid]) -> Result<Box<dyn MergeTransaction + 'a>, Fault> {
    for _ in 0..5 {
        match records.begin(scope(ids)).await {
            Err(fault) if fault.class == FaultClass::Unavailable => {}
            begun => return begun,
        }
    }
    records.begin(scope(ids)).await
}

/// A state read beside the version of another state would be written to the stores under that version, and stay there.
pub async fn a_row_is_never_read_without_its_record<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    let numbered = |number: u64| {
        let mut numbered = State::clone(&state);
        numbered.chunk.summary = Some(number.to_string());
        [Arc::new(numbered)]
    };
    set(&*records, &numbered(1), 1).await;
    let (writer, written) = (fixture.port(), (2..60).map(numbered).collect::<Vec<_>>());
    let writing = tokio::spawn(async move {
        for (number, state) in (2..).zip(&written) {
            set(&*writer, state, number).await;
        }
    });
    loop {
        let ended = writing.is_finished();
        let mut rows = records.rows(None, 10).await.unwrap().rows;
        rows.extend(records.rows_of(&[state.chunk.id]).await.unwrap().into_iter().flatten());
        assert_eq!(rows.len(), 2);
        for row in rows {
            assert_eq!(row.state.unwrap().chunk.summary, Some(row.version.to_string()));
        }
        if ended {
            break;
        }
    }
    writing.await.unwrap();
}
