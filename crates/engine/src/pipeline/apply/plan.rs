//! The plan of a merge: a pure function of what the transaction read, the operations, and what the merge depends on.

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_model::merge::stored_as;
use uuid::Uuid;

use crate::pipeline::apply::chunk_merge::ChunkMerge;
use crate::pipeline::apply::external_change::digest;
use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
use crate::pipeline::envelope::Operation;
use crate::ports::{Altered, Commit, CurrentState, Fault, Write};

/// What the transaction commits, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One commit per chunk.
    pub(crate) commits: Vec<Commit>,
    pub(crate) outcome: Outcome,
    /// Operations that cannot be merged, by their place among the operations. A transaction with such operations must not
    /// commit: the merge begins again without them.
    pub(crate) refused: Vec<Refused>,
}

/// An operation that cannot be merged, by its place, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) place: usize,
    pub(crate) fault: Fault,
}

impl Plan {
    /// Replaces the rows that the database altered by what it stored, in the record, in its digest of the row, and in
    /// what the other stores are to hold.
    pub(crate) fn stored(&mut self, altered: Vec<Altered>, context: MergeContext<'_>) {
        let strategies = &context.settings.strategies;
        for Altered { id, state } in altered {
            let Some(commit) = self.commits.iter_mut().find(|commit| commit.id == id) else { continue };
            let Some(sent) = commit.state.replace(Arc::clone(&state)) else { continue };
            let same_vectors = sent.chunk.embeddings == state.chunk.embeddings;
            commit.record = stored_as(std::mem::take(&mut commit.record), &sent, &state, strategies);
            commit.row = digest(Some(&state));
            if let Some(write) = self.outcome.writes.iter_mut().find(|write| write.id == id) {
                write.state = Some(state);
                if !same_vectors {
                    write.vectors_since = write.version;
                }
                continue;
            }
            // The merge changed nothing that the stores have to learn; the database did.
            let version = commit.record.version.next(commit.record.newest_change()).max(context.floor);
            commit.record.version = version;
            commit.outbox = context.outbox.to_vec();
            self.outcome.writes.push(Write { id, version, state: Some(state), vectors_since: version });
        }
    }
}

/// The chunks of the operations, each once, in the order in which [`plan`] expects their states.
pub(crate) fn chunk_ids(operations: &[&Operation]) -> Vec<Uuid> {
    by_chunk(operations).into_keys().collect()
}

/// Merges the operations of each chunk, in their order, into what the transaction read of it. `current` is in the order
/// of [`chunk_ids`].
pub(crate) fn plan(current: Vec<CurrentState>, operations: &[&Operation], context: MergeContext<'_>) -> Plan {
    let (mut plan, whole) = (Plan::default(), operations);
    for ((id, operations), current) in by_chunk(operations).into_iter().zip(current) {
        let mut merge = ChunkMerge::new(id, current, &operations, context);
        for operation in &operations {
            if let Err(fault) = merge.operation(operation) {
                let place = whole.iter().position(|other| std::ptr::eq(*other, *operation)).unwrap_or_default();
                plan.refused.push(Refused { place, fault });
            }
        }
        merge.repair(&operations);
        plan.commits.push(merge.finish(&mut plan.outcome));
    }
    plan
}

fn by_chunk<'a>(operations: &[&'a Operation]) -> BTreeMap<Uuid, Vec<&'a Operation>> {
    let mut chunks: BTreeMap<Uuid, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        chunks.entry(operation.event.chunk_id()).or_default().push(operation);
    }
    chunks
}
