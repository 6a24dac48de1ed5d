//! Contract of the installation record, and of the fence that it puts on merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_sync_engine::ports::{
    Commit, CurrentState, FaultClass, Fence, Installation, Installed, Kept, MergeScope, PendingWrite, Records, StoreSet,
};
use chunk_sync_model::{Record, SyncVersion, Target};
use uuid::Uuid;

use crate::Fixture;
use crate::merging::{Merging as _, commit};
use crate::states::states;

/// The system of record with its installation record.
pub trait Home: Records + Installation {}

impl<T: Records + Installation> Home for T {}

type Port = dyn Home;

fn installed(version: u64, stores: &[Target]) -> Installed {
    let stores: BTreeMap<_, _> = stores.iter().map(|target| (*target, Kept::Server)).collect();
    let floor = SyncVersion::new(version * 7);
    Installed { id: Uuid::from_u128(7), version, stores: StoreSet(stores), filling: BTreeSet::new(), floor }
}

/// Merges an empty record of chunk 1, as a process of that set.
async fn merge(home: &Port, stores: Option<u64>) -> Result<(), chunk_sync_engine::ports::Fault> {
    let id = states(1)[0].chunk.id;
    let fence = Fence { stores, ..Fence::default() };
    let decide = |held: Vec<CurrentState>| {
        let version = held[0].record.as_ref().map(|record| record.version).unwrap_or_default();
        let record = Record { version: SyncVersion::new(version.signed().unsigned_abs() + 1), ..Record::default() };
        vec![Commit { row_changed: false, row: None, ..commit(id, record, held[0].state.clone()) }]
    };
    home.merge_in(MergeScope { ids: &[id], fence: &fence, finished: &[] }, &decide).await
}

async fn merges(home: &Port) -> i64 {
    let id = states(1)[0].chunk.id;
    home.rows_of(&[id]).await.unwrap().pop().flatten().map_or(0, |row| row.version.signed())
}

pub async fn a_set_is_read_back_as_it_was_recorded<F: Fixture<Port = Port>>() {
    let mut fixture = F::fresh().await;
    assert_eq!(fixture.port().installed().await.unwrap(), None);
    let stores = StoreSet(BTreeMap::from([(Target::Qdrant, Kept::Embedded), (Target::Neo4j, Kept::Server)]));
    let first = Installed { stores, filling: BTreeSet::from([Target::Neo4j]), ..installed(1, &[]) };
    fixture.port().record(None, &first).await.unwrap();
    fixture.reopen().await;
    assert_eq!(fixture.port().installed().await.unwrap(), Some(first));
    let second = installed(2, &[]);
    fixture.port().record(Some(1), &second).await.unwrap();
    assert_eq!(fixture.port().installed().await.unwrap(), Some(second));
}

pub async fn of_two_that_record_a_set_one_is_refused<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (one, other) = (fixture.port(), fixture.port());
    let (first, second) = (installed(1, &[Target::Qdrant]), installed(1, &[Target::Neo4j]));
    let answers = tokio::join!(one.record(None, &first), other.record(None, &second));
    let refused = [answers.0, answers.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.iter().map(|fault| fault.class).collect::<Vec<_>>(), [FaultClass::Busy]);
    let stale = one.record(Some(7), &installed(8, &[])).await.unwrap_err();
    assert_eq!(stale.class, FaultClass::Busy);
}

pub async fn a_merge_of_another_set_is_refused_and_commits_nothing<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let home = fixture.port();
    home.record(None, &installed(1, &[Target::Qdrant])).await.unwrap();
    merge(&*home, Some(1)).await.unwrap();
    home.record(Some(1), &installed(2, &[])).await.unwrap();
    let refused = merge(&*home, Some(1)).await.unwrap_err();
    assert!(refused.outdated, "{refused}");
    assert!(refused.message.contains("its version is 2 now") && refused.message.contains("started with version 1"));
    assert_eq!(merges(&*home).await, 1, "nothing of it was committed");
    merge(&*home, Some(2)).await.unwrap();
    merge(&*home, None).await.unwrap();
    assert_eq!(merges(&*home).await, 3);
}

pub async fn a_store_goes_with_what_waited_for_it<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let home = fixture.port();
    home.record(None, &installed(1, &[Target::Qdrant, Target::Neo4j])).await.unwrap();
    let pending_write = |target| PendingWrite { id: Uuid::from_u128(1), target, version: SyncVersion::new(1) };
    home.enqueue(&[pending_write(Target::Qdrant), pending_write(Target::Neo4j)]).await.unwrap();
    home.record(Some(1), &installed(2, &[Target::Qdrant])).await.unwrap();
    assert!(home.pending_writes(Target::Neo4j, 9).await.unwrap().is_empty());
    assert_eq!(home.pending_writes(Target::Qdrant, 9).await.unwrap(), [pending_write(Target::Qdrant)]);
}

pub async fn a_store_is_filled_by_a_process_of_its_set_only<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let home = fixture.port();
    let filling = BTreeSet::from([Target::Qdrant, Target::Neo4j]);
    let set = Installed { filling, ..installed(3, &[Target::Qdrant, Target::Neo4j]) };
    home.record(None, &set).await.unwrap();
    home.filled(2, Target::Neo4j).await.unwrap();
    assert_eq!(home.installed().await.unwrap(), Some(set));
    home.filled(3, Target::Neo4j).await.unwrap();
    home.filled(3, Target::Neo4j).await.unwrap();
    assert_eq!(home.installed().await.unwrap().unwrap().filling, BTreeSet::from([Target::Qdrant]));
}

pub async fn an_installation_is_fresh_until_a_chunk_has_a_record<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let home: Arc<Port> = fixture.port();
    assert!(home.is_fresh().await.unwrap());
    merge(&*home, None).await.unwrap();
    assert!(!home.is_fresh().await.unwrap());
}
