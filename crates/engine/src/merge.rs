//! Merging a batch: rows and records are fetched under their locks, the decision is pure, and what it says becomes
//! durable with them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::merge::{Change, Conflict, Effect, merge};
use chunk_sync_model::{Target, Writer};
use uuid::Uuid;

use crate::metrics;
use crate::operation::Operation;
use crate::ports::{Commit, Fault, Held, Records, Write};

/// What became of a batch in the system of record.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the other stores are to hold, one write per chunk.
    pub(crate) writes: Vec<Write>,
    /// What the operations met.
    pub(crate) conflicts: Vec<Conflict>,
    /// Operations that came late or once more.
    pub(crate) repeated: u64,
}

impl Outcome {
    pub(crate) fn join(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.conflicts.extend(other.conflicts);
        self.repeated += other.repeated;
    }
}

/// Merges the operations, each chunk's in their order, in one transaction. `owing` are the stores that are told later.
pub(crate) async fn merge_all(
    records: &dyn Records,
    operations: &[&Operation],
    owing: &[Target],
) -> Result<Outcome, Fault> {
    let mut chunks: BTreeMap<Uuid, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        chunks.entry(operation.event.chunk_id()).or_default().push(operation);
    }
    let ids: Vec<Uuid> = chunks.keys().copied().collect();
    let outcome = Mutex::new(Outcome::default());
    let decide = |held: Vec<Held>| {
        let started = Instant::now();
        // Decided anew where the transaction is repeated: nothing of the earlier attempt may stay.
        let mut new = Outcome::default();
        let commits = chunks
            .iter()
            .zip(held)
            .map(|((id, operations), held)| decide(*id, operations, held, owing, &mut new))
            .collect();
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = new;
        metrics::took(metrics::Operation::Merge, started);
        commits
    };
    let started = Instant::now();
    records.merge(&ids, &decide).await?;
    metrics::took(metrics::Operation::Apply(Target::Postgres), started);
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn decide(id: Uuid, operations: &[&Operation], held: Held, owing: &[Target], outcome: &mut Outcome) -> Commit {
    let before = held.record.as_ref().map(|record| record.version).unwrap_or_default();
    let (mut record, mut state, mut row_changed, mut tell) = (held.record, held.state.clone(), false, false);
    for operation in operations {
        let merged = merge(record, state, &Change::from(&operation.event));
        row_changed |= merged.effect == Effect::Shown;
        outcome.repeated += u64::from(merged.effect == Effect::Nothing);
        outcome.conflicts.extend(merged.conflicts);
        // A captured row that is just as we wrote it is our own write coming back: the stores were told with it.
        let own_echo =
            operation.event.writer == Writer::Postgres && merged.effect != Effect::Shown && !operation.repeated;
        tell |= !own_echo;
        (record, state) = (Some(merged.record), merged.state);
    }
    let record = record.unwrap_or_default();
    let embeddings =
        |state: &Option<std::sync::Arc<chunk_sync_model::State>>| state.as_ref().map(|s| s.chunk.embeddings.clone());
    let same_vectors = row_changed && embeddings(&held.state) == embeddings(&state);
    let vectors_since = if same_vectors { before } else { record.version };
    if tell {
        outcome.writes.push(Write { id, version: record.version, state: state.clone(), vectors_since });
    }
    let row = state.as_ref().map(|state| row_fingerprint(state).digest());
    Commit { id, record, state, row_changed, row, owed: if tell { owing.to_vec() } else { Vec::new() } }
}
