//! From a batch of operations to the state that every store has to hold: read under locks, decide purely, write in the
//! same transaction.
//!
//! A crash before the commit leaves nothing: dropping the transaction rolls it back. A crash after the commit and before
//! its answer leaves all of it; the repeated merge changes nothing and propagates again ([`MergeContext::again`]).

mod chunk_merge;
pub(crate) mod conflict_notes;
pub(crate) mod direct_write;
pub(crate) mod external_change;
pub(crate) mod merge_context;
mod plan;
mod sight;
mod written;

use std::time::Instant;

use chunk_sync_model::Target;

use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
pub(crate) use crate::pipeline::apply::plan::Refused;
use crate::pipeline::apply::plan::{chunk_ids, plan};
use crate::pipeline::envelope::Operation;
use crate::ports::{Committed, EntryId, Fault, FaultClass, Fence, FinishedBy, MergeScope, RowsWritten, SystemOfRecord};
use crate::runtime::metrics;

/// How often a merge that another program's insert overtakes is begun before it fails.
const ATTEMPTS: u32 = 3;

/// How a merge ended.
pub(crate) enum MergeEnd {
    /// It is durable.
    Done(Outcome),
    /// Nothing was committed, because these operations cannot be merged.
    Refused(Vec<Refused>),
}

/// Merges the operations in one transaction, those of each chunk in their order.
///
/// # Errors
/// The fault of the system of record; [`Busy`](FaultClass::Busy) if other programs keep inserting rows of these chunks.
/// The merge may or may not have been committed.
pub(crate) async fn merge_all(
    records: &dyn SystemOfRecord,
    operations: &[&Operation],
    fence: &Fence,
    finished_by: FinishedBy,
    context: MergeContext<'_>,
) -> Result<MergeEnd, Fault> {
    let ids = chunk_ids(operations);
    let finished = finished(operations, finished_by);
    let started = Instant::now();
    for _ in 0..ATTEMPTS {
        let mut transaction = records.begin(MergeScope { ids: &ids, fence, finished: &finished }).await?;
        let planning = Instant::now();
        let mut plan = plan(transaction.current(), operations, context);
        metrics::took(metrics::Operation::Merge, planning);
        if !plan.refused.is_empty() {
            return Ok(MergeEnd::Refused(plan.refused));
        }
        let RowsWritten::Stored(altered) = transaction.write(&plan.commits).await? else { continue };
        plan.stored(altered, context);
        if transaction.commit(plan.commits).await? == Committed::Durable {
            metrics::took(metrics::Operation::Apply(Target::Postgres), started);
            return Ok(MergeEnd::Done(plan.outcome));
        }
    }
    Err(Fault::new(FaultClass::Busy, "merge", "other programs inserted rows of these chunks during each attempt"))
}

/// The bus entries that the transaction finishes.
fn finished(operations: &[&Operation], finished_by: FinishedBy) -> Vec<EntryId> {
    match finished_by {
        FinishedBy::Merge => operations.iter().filter_map(|operation| Some(operation.entry.as_ref()?.id)).collect(),
        FinishedBy::Acknowledgement => Vec::new(),
    }
}
