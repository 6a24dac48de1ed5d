//! Merging a batch: the transaction fetches rows and records under their locks, a pure function decides, and the
//! decision becomes durable in the same transaction.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chunk_sync_model::merge::{Change, Effect, merge};
use chunk_sync_model::{Target, Time, Writer};
use uuid::Uuid;

use crate::pipeline::apply::conflict_notes::{ConflictCount, ConflictNotes};
use crate::pipeline::apply::direct_write::{self, MergeState, StoreSnapshots};
use crate::pipeline::apply::external_change::{Written, detect_external_change, digest};
use crate::pipeline::envelope::Operation;
use crate::ports::{Commit, CurrentState, EntryId, Fault, Fence, FinishedBy, MergeScope, Records, Write};
use crate::runtime::metrics;
use crate::runtime::settings::Settings;

/// The result of merging a batch in the system of record.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the other stores are to hold, one write per chunk.
    pub(crate) writes: Vec<Write>,
    /// The conflicts that the operations detected; the conflicts themselves are on record with the rows.
    pub(crate) conflicts: Vec<ConflictCount>,
    /// Operations that changed nothing because they came late or once more.
    pub(crate) repeated: u64,
    /// The stores that held a direct write, once per chunk and store.
    pub(crate) direct: Vec<Writer>,
}

impl Outcome {
    pub(crate) fn join(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.conflicts.extend(other.conflicts);
        self.repeated += other.repeated;
        self.direct.extend(other.direct);
    }
}

/// What a merge of a batch depends on.
#[derive(Clone, Copy)]
pub(crate) struct MergeContext<'a> {
    /// When a row was written, if no captured event states it.
    pub(crate) now: Written,
    /// An earlier attempt failed, and may have been committed nevertheless.
    pub(crate) again: bool,
    /// The strategies for conflicts and the rules for direct writes.
    pub(crate) settings: &'a Settings,
    /// The documents that the stores hold.
    pub(crate) snapshots: &'a StoreSnapshots,
    /// What must still hold when the merge commits.
    pub(crate) fence: &'a Fence,
    /// What finishes the entries of the operations.
    pub(crate) finished_by: FinishedBy,
}

/// Merges the operations in one transaction, those of each chunk in their order. The transaction puts the writes that
/// the stores in `behind` miss into the outbox.
pub(crate) async fn merge_all(
    records: &dyn Records,
    operations: &[&Operation],
    behind: &[Target],
    context: MergeContext<'_>,
) -> Result<Outcome, Fault> {
    let mut chunks: BTreeMap<Uuid, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        chunks.entry(operation.event.chunk_id()).or_default().push(operation);
    }
    let ids: Vec<Uuid> = chunks.keys().copied().collect();
    let outcome = Mutex::new(Outcome::default());
    let decide = |held: Vec<CurrentState>| {
        let started = Instant::now();
        // The transaction may be repeated, and then decides again: nothing of the earlier attempt may stay.
        let mut new = Outcome::default();
        let commits = chunks
            .iter()
            .zip(held)
            .map(|((id, operations), held)| decide(*id, operations, held, behind, context, &mut new))
            .collect();
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = new;
        metrics::took(metrics::Operation::Merge, started);
        commits
    };
    let finished: Vec<EntryId> = match context.finished_by {
        FinishedBy::Merge => operations.iter().filter_map(|o| Some(o.entry.as_ref()?.id)).collect(),
        FinishedBy::Acknowledgement => Vec::new(),
    };
    let started = Instant::now();
    records.merge_in(MergeScope { ids: &ids, fence: context.fence, finished: &finished }, &decide).await?;
    metrics::took(metrics::Operation::Apply(Target::Postgres), started);
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn decide(
    id: Uuid,
    operations: &[&Operation],
    held: CurrentState,
    behind: &[Target],
    context: MergeContext<'_>,
    outcome: &mut Outcome,
) -> Commit {
    let before = held.record.as_ref().map(|record| record.version).unwrap_or_default();
    let row = held.state.clone();
    // A captured event is the signal to read the row, and states when it was written; a repair and a fill do not.
    let signal = operations
        .iter()
        .rev()
        .find(|operation| operation.is_signal() && !operation.is_repair() && !operation.is_fill());
    let written = signal.map_or(context.now, |signal| Written { at: signal.event.timestamp, ..context.now });
    let mut notes = ConflictNotes::new(context.now.at);
    let strategies = &context.settings.strategies;
    let direct = direct_write::found(
        context.snapshots.get(&id),
        held.record.as_ref(),
        held.state.as_deref(),
        (strategies, &context.settings.limits),
        Time::from_micros(context.now.at.micros().saturating_add(context.now.max_ahead)),
    );
    let (mut record, mut state, mut propagate, mut vectors_changed) =
        match detect_external_change(id, held, written, strategies) {
            Ok(merged) => {
                notes.note(Writer::Postgres, merged.record.version, merged.decided, merged.conflicts);
                (Some(merged.record), merged.state, true, merged.vectors_changed)
            }
            Err(held) => (held.record, held.state, false, false),
        };
    for direct in direct {
        let held = MergeState { record: record.unwrap_or_default(), state, vectors_changed };
        let rules = (&context.settings.direct, strategies, &context.settings.limits);
        let merged = direct_write::settle(id, &direct, held, rules, &mut notes);
        (record, state, vectors_changed) = (Some(merged.record), merged.state, merged.vectors_changed);
        outcome.direct.push(direct.writer);
        propagate = true;
    }
    for operation in operations {
        if operation.is_signal() {
            // The row is as it was last written or read, and the stores were sent it then. If the signal may have been
            // carried before, the row is sent again.
            propagate |= operation.repeated || context.again || operation.is_fill();
            continue;
        }
        let merged = merge(record, state, &Change::from(&operation.event), strategies);
        outcome.repeated += u64::from(merged.effect == Effect::Nothing);
        notes.note(operation.event.writer, merged.record.version, merged.decided, merged.conflicts);
        vectors_changed |= merged.vectors_changed;
        propagate = true;
        (record, state) = (Some(merged.record), merged.state);
    }
    let mut record = record.unwrap_or_default();
    if let Some(above) = operations.iter().filter(|o| o.is_repair()).map(|o| o.event.timestamp).max() {
        // A store skips a write that has no newer version, whatever it holds: a repair needs a new version.
        record.version = record.version.next(above);
        (propagate, vectors_changed) = (true, true);
    }
    let vectors_since = if vectors_changed { record.version } else { before };
    if propagate {
        outcome.writes.push(Write { id, version: record.version, state: state.clone(), vectors_since });
    }
    outcome.conflicts.extend(notes.counts());
    let (row_changed, outbox) = (state != row, if propagate { behind.to_vec() } else { Vec::new() });
    let ConflictNotes { decided, met: conflicts, .. } = notes;
    Commit { id, record, row: digest(state.as_deref()), state, row_changed, outbox, decided, conflicts }
}
