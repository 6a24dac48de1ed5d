//! Merging a batch: rows and records are fetched under their locks, the decision is pure, and what it says becomes
//! durable with them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chunk_sync_model::merge::{Change, Effect, merge};
use chunk_sync_model::{Target, Time, Writer};
use uuid::Uuid;

use crate::absorb::{Written, absorb, digest};
use crate::direct::{self, Looks, Merging};
use crate::journal::{Journal, Mark};
use crate::metrics;
use crate::operation::Operation;
use crate::ports::{Commit, Fault, Fence, Held, MergeScope, Records, Write};
use crate::settings::Settings;

/// What became of a batch in the system of record.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the other stores are to hold, one write per chunk.
    pub(crate) writes: Vec<Write>,
    /// What the operations met; the conflicts themselves are on record with the rows.
    pub(crate) conflicts: Vec<Mark>,
    /// Operations that came late or once more.
    pub(crate) repeated: u64,
    /// Who had written into a store directly, once for each chunk.
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

/// What a batch is merged by.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// What must still hold when it commits.
    pub(crate) fence: &'a Fence,
    /// When a row was written of which no captured event says it.
    pub(crate) now: Written,
    /// An earlier attempt failed, which may nevertheless have happened.
    pub(crate) again: bool,
    /// What decides where writers disagree, and what is done about what others write into the stores.
    pub(crate) settings: &'a Settings,
    /// What the stores were found to hold.
    pub(crate) looks: &'a Looks,
}

/// Merges the operations, each chunk's in their order, in one transaction. `owing` are the stores that are told later.
pub(crate) async fn merge_all(
    records: &dyn Records,
    operations: &[&Operation],
    owing: &[Target],
    terms: Terms<'_>,
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
            .map(|((id, operations), held)| decide(*id, operations, held, owing, terms, &mut new))
            .collect();
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = new;
        metrics::took(metrics::Operation::Merge, started);
        commits
    };
    let started = Instant::now();
    records.merge_in(MergeScope { ids: &ids, fence: terms.fence, finished: &[] }, &decide).await?;
    metrics::took(metrics::Operation::Apply(Target::Postgres), started);
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn decide(
    id: Uuid,
    operations: &[&Operation],
    held: Held,
    owing: &[Target],
    terms: Terms<'_>,
    outcome: &mut Outcome,
) -> Commit {
    let before = held.record.as_ref().map(|record| record.version).unwrap_or_default();
    let row = held.state.clone();
    // A captured event is the signal to look at the row, and says when it was written; a repair does not know.
    let signal = operations.iter().rev().find(|operation| operation.is_signal() && !operation.is_repair());
    let written = signal.map_or(terms.now, |signal| Written { at: signal.event.timestamp, ..terms.now });
    let mut journal = Journal::new(terms.now.at);
    let strategies = &terms.settings.strategies;
    let direct = direct::found(
        terms.looks.get(&id),
        held.record.as_ref(),
        held.state.as_deref(),
        (strategies, &terms.settings.limits),
        Time::from_micros(terms.now.at.micros().saturating_add(terms.now.max_ahead)),
    );
    let (mut record, mut state, mut tell, mut vectors_changed) = match absorb(id, held, written, strategies) {
        Ok(merged) => {
            journal.note(Writer::Postgres, merged.record.version, merged.decided, merged.conflicts);
            (Some(merged.record), merged.state, true, merged.vectors_changed)
        }
        Err(held) => (held.record, held.state, false, false),
    };
    for direct in direct {
        let held = Merging { record: record.unwrap_or_default(), state, vectors_changed };
        let rules = (&terms.settings.direct, strategies, &terms.settings.limits);
        let merged = direct::settle(id, &direct, held, rules, &mut journal);
        (record, state, vectors_changed) = (Some(merged.record), merged.state, merged.vectors_changed);
        outcome.direct.push(direct.writer);
        tell = true;
    }
    for operation in operations {
        if operation.is_signal() {
            // A row that is just as it was last written or seen: the stores were told with it. Where the signal was
            // perhaps carried before, they are told again.
            tell |= operation.repeated || terms.again;
            continue;
        }
        let merged = merge(record, state, &Change::from(&operation.event), strategies);
        outcome.repeated += u64::from(merged.effect == Effect::Nothing);
        journal.note(operation.event.writer, merged.record.version, merged.decided, merged.conflicts);
        vectors_changed |= merged.vectors_changed;
        tell = true;
        (record, state) = (Some(merged.record), merged.state);
    }
    let mut record = record.unwrap_or_default();
    if let Some(above) = operations.iter().filter(|o| o.is_repair()).map(|o| o.event.timestamp).max() {
        // Stores leave alone what has no newer version, whatever they hold in truth.
        record.version = record.version.next(above);
        (tell, vectors_changed) = (true, true);
    }
    let vectors_since = if vectors_changed { record.version } else { before };
    if tell {
        outcome.writes.push(Write { id, version: record.version, state: state.clone(), vectors_since });
    }
    outcome.conflicts.extend(journal.marks());
    let (row_changed, owed) = (state != row, if tell { owing.to_vec() } else { Vec::new() });
    let Journal { decided, met: conflicts, .. } = journal;
    Commit { id, record, row: digest(state.as_deref()), state, row_changed, owed, decided, conflicts }
}
