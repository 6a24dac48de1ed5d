//! Contract of the system of record about the outbox: the states that other stores have yet to receive.

use chunk_sync_engine::ports::{Commit, Debt, Held};
use chunk_sync_model::{SyncVersion, Target};
use uuid::Uuid;

use super::{Port, counted_up, event, held, merged};
use crate::Fixture;
use crate::states::{states, version};

pub(super) fn debt(number: u128, target: Target, owed: u64) -> Debt {
    Debt { id: Uuid::from_u128(number), target, version: version(owed) }
}

pub async fn the_outbox_is_listed_oldest_first<F: Fixture<Port = Port>>() {
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

pub async fn an_outbox_entry_keeps_its_greatest_version<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    for owed in [4, 7, 5] {
        records.owe(&[debt(1, Target::Qdrant, owed)]).await.unwrap();
    }
    assert_eq!(records.debts(Target::Qdrant, 10).await.unwrap(), [debt(1, Target::Qdrant, 7)]);
    // The version that was written is older than the one in the outbox.
    records.paid(&[debt(1, Target::Qdrant, 6)]).await.unwrap();
    assert_eq!(records.debts(Target::Qdrant, 10).await.unwrap().len(), 1);
    records.paid(&[debt(1, Target::Qdrant, 7)]).await.unwrap();
    assert!(records.debts(Target::Qdrant, 10).await.unwrap().is_empty());
}

pub async fn an_outbox_entry_renewed_while_it_is_written_stays<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    for round in 1..20 {
        let (old, new) = ([debt(1, Target::Neo4j, 2 * round)], [debt(1, Target::Neo4j, 2 * round + 1)]);
        records.owe(&old).await.unwrap();
        let (paid, owed) = tokio::join!(records.paid(&old), records.owe(&new));
        paid.and(owed).unwrap();
        assert_eq!(records.debts(Target::Neo4j, 9).await.unwrap(), new);
        records.paid(&new).await.unwrap();
        assert!(records.debts(Target::Neo4j, 9).await.unwrap().is_empty());
    }
}

pub async fn hundreds_of_outbox_entries_are_added_and_removed_at_once<F: Fixture<Port = Port>>() {
    let fixture = F::fresh().await;
    let records = fixture.port();
    let of = |target| (0..500).map(|number| debt(number, target, 3)).collect::<Vec<_>>();
    let (graph, vectors) = (of(Target::Neo4j), of(Target::Qdrant));
    let both = [&graph[..], &vectors[..]].concat();
    records.owe(&both).await.unwrap();
    records.owe(&both).await.unwrap();
    let mut owed = records.debts(Target::Neo4j, 1000).await.unwrap();
    owed.sort_by_key(|debt| debt.id);
    assert_eq!(owed, graph);
    assert_eq!(records.debts(Target::Qdrant, 7).await.unwrap().len(), 7);
    records.paid(&graph).await.unwrap();
    // Removing an entry again, or one that never was in the outbox, changes nothing.
    records.paid(&graph).await.unwrap();
    records.paid(&[debt(1000, Target::Qdrant, 9)]).await.unwrap();
    let counts = records.debt_counts().await.unwrap();
    let count = |target| counts.get(&target).copied().unwrap_or_default();
    assert_eq!((count(Target::Neo4j), count(Target::Qdrant)), (0, 500));
}

pub async fn the_outbox_is_filled_with_the_row<F: Fixture<Port = Port>>() {
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
    // A later version enters the outbox even if the row stays the same.
    let decide = |held: Vec<Held>| {
        let mut commits = counted_up(&[id], held.clone());
        (commits[0].owed, commits[0].row) = (vec![Target::Neo4j], held[0].row);
        commits
    };
    records.merge(&[id], &decide).await.unwrap();
    let later = SyncVersion::new(version.get() + 1);
    assert_eq!(records.debts(Target::Neo4j, 9).await.unwrap()[0].version, later);
    assert_eq!(records.debts(Target::Qdrant, 9).await.unwrap()[0].version, version);
}
