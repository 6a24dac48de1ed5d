//! The plan of a merge: a pure function of what the transaction read, the operations, and what the merge depends on.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::pipeline::apply::chunk_merge::ChunkMerge;
use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
use crate::pipeline::envelope::Operation;
use crate::ports::{Commit, CurrentState};

/// What the transaction commits, and what follows from it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One commit per chunk.
    pub(crate) commits: Vec<Commit>,
    pub(crate) outcome: Outcome,
}

/// The chunks of the operations, each once, in the order in which [`plan`] expects their states.
pub(crate) fn chunk_ids(operations: &[&Operation]) -> Vec<Uuid> {
    by_chunk(operations).into_keys().collect()
}

/// Merges the operations of each chunk, in their order, into what the transaction read of it. `current` is in the order
/// of [`chunk_ids`].
pub(crate) fn plan(current: Vec<CurrentState>, operations: &[&Operation], context: MergeContext<'_>) -> Plan {
    let mut plan = Plan::default();
    for ((id, operations), current) in by_chunk(operations).into_iter().zip(current) {
        let mut merge = ChunkMerge::new(id, current, &operations, context);
        for operation in &operations {
            merge.operation(operation);
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
