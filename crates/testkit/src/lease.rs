//! Contract of every lease.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::ports::{Commit, CurrentState, Fence, Lease, LeaseState, MergeScope, Records};
use uuid::Uuid;

use crate::Fixture;
use crate::merging::{Merging as _, commit};
use crate::states::{bare, state};

/// What a lease offers to its contract tests beside its port.
pub trait LeaseFixture: Fixture<Port = dyn Lease> {
    /// The system of record that the lease belongs to.
    fn records(&self) -> Arc<dyn Records>;
}

async fn taken(lease: &dyn Lease, seen: &LeaseState) -> Option<Uuid> {
    let token = Uuid::new_v4();
    lease.take(seen, token).await.unwrap().then_some(token)
}

/// Merges a chunk under that token; returns whether it was committed.
async fn merges(records: &dyn Records, token: Uuid) -> bool {
    let (id, fence) = (state(&bare(&Uuid::new_v4().to_string())).chunk.id, Fence { lease: Some(token), stores: None });
    let decide = |held: Vec<CurrentState>| {
        let record_alone = |held: CurrentState| commit(id, held.record.unwrap_or_default(), None);
        held.into_iter().map(record_alone).map(|commit| Commit { row_changed: false, ..commit }).collect()
    };
    let merged = records.merge_in(MergeScope { ids: &[id], fence: &fence, finished: &[] }, &decide).await;
    let recorded = records.rows_of(&[id]).await.unwrap()[0].is_some();
    assert_eq!(merged.is_ok(), recorded, "{merged:?}");
    recorded
}

pub async fn a_free_lease_is_taken_by_one<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let seen = fixture.port().state().await.unwrap();
    assert_eq!((seen.token, seen.heartbeat), (None, 0));
    let takers = (0..8).map(|_| {
        let (lease, seen) = (fixture.port(), seen.clone());
        tokio::spawn(async move { taken(&*lease, &seen).await })
    });
    let mut winners = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        winners.extend(taker.await.unwrap());
    }
    let state = fixture.port().state().await.unwrap();
    assert_eq!(winners, [state.token.unwrap()]);
    assert!(state.heartbeat > seen.heartbeat && !state.holder.is_empty(), "{state:?}");
}

pub async fn a_lease_that_is_renewed_is_not_taken<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let lease = fixture.port();
    let token = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    let seen = lease.state().await.unwrap();
    assert!(lease.renew(token).await.unwrap());
    assert_eq!(taken(&*lease, &seen).await, None, "the lease was renewed after it was read");
    assert!(lease.renew(token).await.unwrap());
}

pub async fn a_lease_that_stands_still_is_taken_and_its_holder_learns_it<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let lease = fixture.port();
    let first = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    let second = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    assert!(!lease.renew(first).await.unwrap());
    assert!(lease.renew(second).await.unwrap());
}

pub async fn calls_whose_answer_was_lost_may_be_repeated<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let lease = fixture.port();
    let seen = lease.state().await.unwrap();
    let token = taken(&*lease, &seen).await.unwrap();
    assert!(lease.take(&seen, token).await.unwrap());
    for _ in 0..2 {
        lease.release(token).await.unwrap();
    }
    let state = lease.state().await.unwrap();
    assert!(state.token.is_none() && state.heartbeat > 0, "{state:?}");
    let next = taken(&*lease, &state).await.unwrap();
    lease.release(token).await.unwrap();
    assert!(lease.renew(next).await.unwrap(), "the release of another token changes nothing");
}

pub async fn a_merge_is_refused_under_any_other_token<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let (lease, records) = (fixture.port(), fixture.records());
    let another = Uuid::new_v4();
    assert!(!merges(&*records, another).await);
    let first = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    assert!(merges(&*records, first).await);
    let second = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    assert!(!merges(&*records, first).await);
    assert!(merges(&*records, second).await);
    lease.release(second).await.unwrap();
    assert!(!merges(&*records, second).await);
}

pub async fn a_takeover_and_merges_at_once_never_overlap<F: LeaseFixture>() {
    let fixture = F::fresh().await;
    let lease = fixture.port();
    let token = taken(&*lease, &lease.state().await.unwrap()).await.unwrap();
    let mergers = (0..4).map(|_| {
        let records = fixture.records();
        tokio::spawn(async move {
            let mut merged = 0_u32;
            let state = state(&bare(&Uuid::new_v4().to_string()));
            let fence = Fence { lease: Some(token), stores: None };
            loop {
                let decide = |_: Vec<CurrentState>| {
                    std::thread::sleep(Duration::from_millis(2));
                    Vec::new()
                };
                let scope = MergeScope { ids: &[state.chunk.id], fence: &fence, finished: &[] };
                if records.merge_in(scope, &decide).await.is_err() {
                    return merged;
                }
                merged += 1;
            }
        })
    });
    let mergers: Vec<_> = mergers.collect();
    while taken(&*lease, &lease.state().await.unwrap()).await.is_none() {}
    for merger in mergers {
        tokio::time::timeout(Duration::from_secs(20), merger).await.expect("merges continue").unwrap();
    }
}
