//! From durable operations to the store writers: the merge with its repetitions, and the writes in the order of the
//! merges. `worker.rs` has the crash table.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::Target;
use tokio::time::Instant;
use tracing::warn;

use crate::pipeline::apply::direct_write::{self, StoreSnapshots};
use crate::pipeline::apply::external_change::Written;
use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
use crate::pipeline::apply::{MergeEnd, merge_all};
use crate::pipeline::completion::Batch;
use crate::pipeline::consumer::TOGETHER_BYTES;
use crate::pipeline::envelope::Operation;
use crate::pipeline::isolation::{halves, halves_in_order};
use crate::pipeline::merge_parts::{Merged, Merging, Sorted};
use crate::pipeline::merge_size::MergeSize;
use crate::pipeline::store_writer::StoreWriter;
use crate::pipeline::worker::Worker;
use crate::ports::{Fault, FaultClass, FinishedBy, Policy, WaitReason, Watched, Write};
use crate::runtime::catch_panic::catch_panic;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::metrics;
use crate::runtime::retry::{Pauses, retry};
use crate::runtime::watch;

/// How long an operation is retried whose row refers to a row of another table that does not exist yet.
const PARENT_PATIENCE: Duration = Duration::from_secs(5);

/// What [`Worker::carry`] carried.
#[derive(Default)]
pub(crate) struct Part {
    /// What is with the store writers now.
    pub(crate) batch: Option<Batch>,
    /// What is still to be carried, in its order: the states before have as many bytes as are held at once.
    pub(crate) rest: Vec<Operation>,
}

impl Worker {
    /// Lists the chunks of operations that may have been carried before: writes of an earlier process may still arrive.
    /// False if the worker was stopped first.
    async fn list_repeated(&self, operations: &[Operation]) -> Result<bool, Fault> {
        let repeated = operations.iter().filter(|operation| operation.repeated);
        let ids: BTreeSet<_> = repeated.map(|operation| operation.event.chunk_id()).collect();
        let targets = || self.store_writers.iter().map(StoreWriter::target);
        let watched: Vec<Watched> =
            ids.into_iter().flat_map(|id| targets().map(move |target| Watched { id, target })).collect();
        let list = || watch::list(&*self.records, &watched);
        let listed = retry(&self.settings.worker, &self.stop, "list the chunks of repeated operations", list);
        Ok(listed.await?.is_some())
    }

    /// Carries operations and waits until they are completed, the next ones after those before.
    pub(crate) async fn carry_to_the_end(&self, mut operations: Vec<Operation>) -> Result<(), Fault> {
        while !operations.is_empty() && !self.stop.is_requested() {
            let carried = self.carry(operations).await?;
            operations = carried.rest;
            if let Some(batch) = carried.batch {
                self.clone().complete(batch).await?;
            }
        }
        Ok(())
    }

    /// From durable to the store writers: replayed operations take this path as well. Nothing was carried if the worker was
    /// stopped or the term ended first.
    pub(crate) async fn carry(&self, operations: Vec<Operation>) -> Result<Part, Fault> {
        let mut turn = self.turn.lock().await;
        if self.clocks.agree().await.is_none() || !self.list_repeated(&operations).await? {
            return Ok(Part::default());
        }
        // Read once: the merge puts the writes of a store that is behind into the outbox, and every other store gets
        // them directly, whatever happens to it during the merge. With a second reading a store might get them neither
        // way.
        let behind = self.behind();
        let direct: Vec<&StoreWriter> =
            self.store_writers.iter().filter(|store_writer| !behind.contains(&store_writer.target())).collect();
        // If only the merged row has the event, the outbox must have the writes of every store.
        let enqueued = self.bus.finished_by() == FinishedBy::Merge;
        let outbox =
            if enqueued { self.store_writers.iter().map(StoreWriter::target).collect() } else { behind.clone() };
        // Before the merge: from its commit on, a later merge may put a newer write of these chunks into the outbox.
        let ids: Vec<_> = operations.iter().map(|operation| operation.event.chunk_id()).collect();
        let claims = direct.iter().map(|store_writer| store_writer.claim(ids.clone())).collect();
        let Some(mut merged) = self.merge(&operations, &outbox, &mut turn).await? else {
            return Ok(Part::default());
        };
        let outcome = std::mem::take(&mut merged.outcome);
        let merged_at = self.clock.now();
        self.count(&outcome);
        failpoint::reached(CrashPoint::Merged);
        let writes: Arc<[_]> = outcome.writes.into();
        let mut answers = Vec::with_capacity(direct.len());
        for store_writer in direct.into_iter().filter(|_| !writes.is_empty()) {
            answers.push((store_writer.target(), store_writer.send(Arc::clone(&writes), enqueued)));
        }
        let Sorted { kept: operations, refused, locked, error, rest } = merged.sort(operations);
        // If the worker is stopped before they are set aside, they are where they were read from.
        if !locked.is_empty() {
            self.set_aside(locked, WaitReason::Locked, &error).await?;
        }
        let batch = Batch { operations, writes, rows: outcome.rows, answers, refused, enqueued, merged_at, claims };
        Ok(Part { batch: Some(batch).filter(|batch| !batch.operations.is_empty()), rest })
    }

    /// Merges, and retries until the system of record answers. The writes that the stores in `behind` miss go into the
    /// outbox. A refused batch is halved until the refused operation is found; a batch that meets a lock or a time limit
    /// is halved until the chunk is found. Ends before the whole batch once the merged states have [`TOGETHER_BYTES`].
    /// `None` if the worker was stopped or the term ended first.
    async fn merge(
        &self,
        operations: &[Operation],
        behind: &[Target],
        size: &mut MergeSize,
    ) -> Result<Option<Merged>, Fault> {
        let mut merging = Merging::of(operations, Pauses::new(&self.settings.worker));
        let mut merged_bytes = 0;
        while let Some(part) = merging.next(size) {
            let batch: Vec<&Operation> = part.iter().map(|i| &operations[*i]).collect();
            let now = Written { at: self.clock.now(), max_ahead: self.settings.limits.max_ahead_micros };
            let snapshots = self.look(&batch).await;
            if !self.term.holds() {
                return Ok(None);
            }
            let context = MergeContext {
                now,
                again: merging.again,
                settings: &self.settings,
                snapshots: &snapshots,
                outbox: behind,
                floor: self.floor,
            };
            let merge = merge_all(&*self.records, &batch, &self.fence, self.bus.finished_by(), context);
            let began = Instant::now();
            let end = catch_panic("merge", merge).await.flatten();
            match &end {
                Err(fault) if fault.divisible => size.halve(batch.len()),
                _ => size.note(batch.len(), began.elapsed()),
            }
            match end {
                Ok(MergeEnd::Done(outcome)) => {
                    let bytes: usize = outcome.writes.iter().map(Write::weight).sum();
                    merging.merged.outcome.join(outcome);
                    self.progress.records_answered();
                    merged_bytes += bytes;
                    if merged_bytes >= TOGETHER_BYTES.min(self.settings.worker.in_flight_bytes) {
                        merging.end_here();
                    }
                }
                Ok(MergeEnd::Refused(refused)) => {
                    merging.refuse(&part, refused);
                    self.progress.records_answered();
                }
                Err(fault) => {
                    self.note_failed_merge(&batch, &fault);
                    if !self.continue_after(fault, part, &mut merging).await? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(merging.merged))
    }

    /// A fault that may pass leaves open whether the merge was committed, and whether the lease still holds.
    fn note_failed_merge(&self, batch: &[&Operation], fault: &Fault) {
        if fault.policy().retries() {
            for operation in batch {
                metrics::failed(operation.source(), Target::Postgres, fault.class);
            }
            self.term.doubt();
        }
    }

    /// Divides a part that met a lock or took too long. Chunks whose rows other programs lock now are set aside, all at
    /// once: in halves each of them would be waited for. If there is none, the part is halved until the chunk is found.
    async fn divide(&self, part: &[usize], fault: &Fault, merging: &mut Merging<'_>) {
        let Some((first, second)) = halves(part, merging.operations) else {
            merging.set_aside(part, fault);
            return;
        };
        let chunk = |i: &usize| merging.operations[*i].event.chunk_id();
        let ids: Vec<_> = part.iter().map(chunk).collect::<BTreeSet<_>>().into_iter().collect();
        let locked = match fault.class {
            FaultClass::Busy => self.records.locked_rows(&ids).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        let (held, free): (Vec<usize>, Vec<usize>) = part.iter().partition(|i| locked.contains(&chunk(i)));
        if held.is_empty() {
            merging.open.extend([second, first]);
            return;
        }
        let of_each: Vec<Vec<usize>> =
            locked.iter().map(|id| held.iter().copied().filter(|i| chunk(i) == *id).collect()).collect();
        merging.open.extend(Some(free).filter(|free| !free.is_empty()));
        for part in of_each {
            merging.set_aside(&part, fault);
        }
    }

    /// Decides what becomes of a part whose merge failed. False if the worker was stopped meanwhile.
    async fn continue_after(&self, fault: Fault, part: Vec<usize>, merging: &mut Merging<'_>) -> Result<bool, Fault> {
        merging.again |= fault.policy().retries() && fault.class != FaultClass::Busy;
        match fault.policy() {
            Policy::Stop => return Err(fault),
            Policy::RetryAlone => self.divide(&part, &fault, merging).await,
            Policy::Wait => {
                self.progress.records_failed(&fault);
                warn!(%fault, "the system of record failed; retrying the merge");
                merging.open.push(part);
                return Ok(self.stop.during(tokio::time::sleep(merging.pauses.next())).await.is_some());
            }
            Policy::DeadLetter => {
                self.progress.records_answered();
                match halves(&part, merging.operations).or_else(|| halves_in_order(&part)) {
                    Some((first, second)) => merging.open.extend([second, first]),
                    None if self.may_await_parent(&part, merging.operations, &fault) => {
                        merging.set_aside(&part, &fault);
                    }
                    None => merging.merged.refused.extend(part.into_iter().map(|i| (i, fault.clone()))),
                }
            }
        }
        Ok(true)
    }

    /// Whether the row that the operation refers to may still be added.
    fn may_await_parent(&self, part: &[usize], operations: &[Operation], fault: &Fault) -> bool {
        let waited = |i: &usize| self.room.lacks_parent(operations[*i].event.chunk_id());
        fault.awaits_parent && part.first().is_some_and(|i| waited(i) < PARENT_PATIENCE)
    }

    /// Reads the chunks from the stores that answer, to detect direct writes.
    async fn look(&self, batch: &[&Operation]) -> StoreSnapshots {
        let answers = |store_writer: &&StoreWriter| {
            store_writer.condition().failing.is_none() && !store_writer.condition().behind
        };
        let stores: Vec<_> = self.store_writers.iter().filter(answers).map(StoreWriter::store).collect();
        direct_write::look(&stores, batch, self.settings.direct.detect, self.settings.worker.patience).await
    }

    fn behind(&self) -> Vec<Target> {
        self.store_writers
            .iter()
            .filter(|store_writer| store_writer.condition().behind)
            .map(StoreWriter::target)
            .collect()
    }

    fn count(&self, outcome: &Outcome) {
        for _ in 0..outcome.repeated {
            metrics::repeated();
        }
        for writer in &outcome.direct {
            metrics::direct(*writer);
        }
        for count in &outcome.conflicts {
            metrics::conflict(count.kind, count.strategy, count.outcome);
        }
        self.progress.count_conflicts(&outcome.conflicts);
    }
}
