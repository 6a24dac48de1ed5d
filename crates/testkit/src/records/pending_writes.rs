//! Contract of the system of record about the outbox: the states that other stores have yet to receive.

use chunk_sync_engine::ports::{Commit, CurrentState, PendingWrite};
use chunk_sync_model::{SyncVersion, Target};
use uuid::Uuid;

use super::transactions::counted_up;
use super::{Port, event, held, merged};
use crate::Fixture;
use crate::merging::Merging as _;
use crate::states::{states, version};

pub(super) fn pending_write(number: u128, target: Target, outbox: u64) -> PendingWrite {
    PendingWrite { id: Uuid::from_u128(number), target, version: version(outbox) }
}

pub async fn the_outbox_is_listed_oldest_first<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let pending_writes: Vec<_> = [9, 2, 5].map(|number| pending_write(number, Target::Neo4j, 1)).into();
    for pending_write in &pending_writes {
        records.enqueue(std::slice::from_ref(pending_write)).await.unwrap();
    }
    records.enqueue(&[pending_write(1, Target::Qdrant, 1)]).await.unwrap();
    assert_eq!(records.pending_writes(Target::Neo4j, 2).await.unwrap(), pending_writes[..2]);
    records.drained(&pending_writes[..1]).await.unwrap();
    assert_eq!(records.pending_writes(Target::Neo4j, 10).await.unwrap(), pending_writes[1..]);
    let counts = records.outbox_counts().await.unwrap();
    let count = |target| counts.get(&target).copied().unwrap_or_default();
    assert_eq!((count(Target::Neo4j), count(Target::Qdrant), count(Target::Postgres)), (2, 1, 0));
}

pub async fn an_outbox_entry_keeps_its_greatest_version<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    for outbox in [4, 7, 5] {
        records.enqueue(&[pending_write(1, Target::Qdrant, outbox)]).await.unwrap();
    }
    assert_eq!(records.pending_writes(Target::Qdrant, 10).await.unwrap(), [pending_write(1, Target::Qdrant, 7)]);
    // The version that was written is older than the one in the outbox.
    records.drained(&[pending_write(1, Target::Qdrant, 6)]).await.unwrap();
    assert_eq!(records.pending_writes(Target::Qdrant, 10).await.unwrap().len(), 1);
    records.drained(&[pending_write(1, Target::Qdrant, 7)]).await.unwrap();
    assert!(records.pending_writes(Target::Qdrant, 10).await.unwrap().is_empty());
}

pub async fn an_outbox_entry_renewed_while_it_is_written_stays<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    for round in 1..20 {
        let (old, new) =
            ([pending_write(1, Target::Neo4j, 2 * round)], [pending_write(1, Target::Neo4j, 2 * round + 1)]);
        records.enqueue(&old).await.unwrap();
        let (drained, outbox) = tokio::join!(records.drained(&old), records.enqueue(&new));
        drained.and(outbox).unwrap();
        assert_eq!(records.pending_writes(Target::Neo4j, 9).await.unwrap(), new);
        records.drained(&new).await.unwrap();
        assert!(records.pending_writes(Target::Neo4j, 9).await.unwrap().is_empty());
    }
}

pub async fn hundreds_of_outbox_entries_are_added_and_removed_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let of = |target| (0..500).map(|number| pending_write(number, target, 3)).collect::<Vec<_>>();
    let (graph, vectors) = (of(Target::Neo4j), of(Target::Qdrant));
    let both = [&graph[..], &vectors[..]].concat();
    records.enqueue(&both).await.unwrap();
    records.enqueue(&both).await.unwrap();
    let mut outbox = records.pending_writes(Target::Neo4j, 1000).await.unwrap();
    outbox.sort_by_key(|pending_write| pending_write.id);
    assert_eq!(outbox, graph);
    assert_eq!(records.pending_writes(Target::Qdrant, 7).await.unwrap().len(), 7);
    records.drained(&graph).await.unwrap();
    // Removing an entry again, or one that never was in the outbox, changes nothing.
    records.drained(&graph).await.unwrap();
    records.drained(&[pending_write(1000, Target::Qdrant, 9)]).await.unwrap();
    let counts = records.outbox_counts().await.unwrap();
    let count = |target| counts.get(&target).copied().unwrap_or_default();
    assert_eq!((count(Target::Neo4j), count(Target::Qdrant)), (0, 500));
}

pub async fn the_outbox_is_filled_with_the_row<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let (records, state) = (fixture.port(), states(1).remove(0));
    let id = state.chunk.id;
    let decide = |held: Vec<CurrentState>| {
        let commit = merged(held.into_iter().next().unwrap(), &event(&state));
        vec![Commit { outbox: vec![Target::Neo4j, Target::Qdrant], ..commit }]
    };
    records.merge(&[id], &decide).await.unwrap();
    let version = held(&*records, id).await.record.unwrap().version;
    for target in [Target::Neo4j, Target::Qdrant] {
        assert_eq!(records.pending_writes(target, 9).await.unwrap(), [PendingWrite { id, target, version }]);
    }
    // A later version enters the outbox even if the row stays the same.
    let decide = |held: Vec<CurrentState>| {
        let mut commits = counted_up(&[id], held.clone());
        (commits[0].outbox, commits[0].row) = (vec![Target::Neo4j], held[0].row);
        commits
    };
    records.merge(&[id], &decide).await.unwrap();
    let later = SyncVersion::new(version.get() + 1);
    assert_eq!(records.pending_writes(Target::Neo4j, 9).await.unwrap()[0].version, later);
    assert_eq!(records.pending_writes(Target::Qdrant, 9).await.unwrap()[0].version, version);
}
