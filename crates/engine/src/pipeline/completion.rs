//! Completing a batch: every store holds it, or what a store misses is in the outbox → completion in the log →
//! acknowledged on the bus, in that order.
//!
//! What a breaker holds is set aside instead (`waiting.rs`). An operation that waited is removed from the table of
//! waiting events last.
//!
//! If the merge has finished the entries and put the writes into the outbox, there is neither a completion nor an
//! acknowledgement: dead letters → removal from the outbox. A write that a store has not answered stays in the outbox.

mod ended;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use chunk_sync_model::{Target, Time};
use ended::{Done, Ended, Failure};
use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use crate::pipeline::breakers::Step;
use crate::pipeline::claims::Claim;
use crate::pipeline::envelope::{Operation, report_dead_letter};
use crate::pipeline::log::Ending;
use crate::pipeline::store_writer::WriteResult;
use crate::pipeline::worker::Worker;
use crate::ports::{DeadLetter, EntryId, Fault, FinishedBy, PendingWrite, WaitReason, Write};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::metrics;
use crate::runtime::retry::retry;

/// A batch that was handed to the store writers.
pub(crate) struct Batch {
    pub(crate) operations: Vec<Operation>,
    pub(crate) writes: Arc<[Write]>,
    /// The chunks whose rows the merge changed.
    pub(crate) rows: Vec<Uuid>,
    /// The pending answer of each store writer, one result per write.
    pub(crate) answers: Vec<(Target, oneshot::Receiver<Vec<WriteResult>>)>,
    /// Operations that the system of record refused.
    pub(crate) refused: Vec<(usize, Fault)>,
    /// The merge has put the writes into the outbox.
    pub(crate) enqueued: bool,
    /// When the merge was committed.
    pub(crate) merged_at: Time,
    /// The claims that keep the drain of the outbox away from these chunks until the batch is completed.
    pub(crate) claims: Vec<Claim>,
}

/// What the breakers hold of a batch, and the last refusal.
#[derive(Default)]
pub(crate) struct HeldBack {
    pub(crate) operations: Vec<Operation>,
    pub(crate) error: String,
}

impl HeldBack {
    fn of(held: Vec<Ended>) -> Self {
        let mut all = Self::default();
        for Ended { operation, failure } in held {
            all.error = failure.map(|failure| failure.fault.to_string()).unwrap_or_default();
            all.operations.push(Operation { repeated: true, ..operation });
        }
        all
    }
}

/// Writes of the outbox that were sent directly, by how the store answered.
#[derive(Default)]
struct Answered {
    durable: Vec<PendingWrite>,
    refused: Vec<PendingWrite>,
}

impl Worker {
    /// From the store writers to completed. Operations that a breaker holds are set aside.
    pub(crate) async fn complete(self, batch: Batch) -> Result<(), Fault> {
        let HeldBack { operations, error } = self.end(batch).await?;
        if !operations.is_empty() {
            self.set_aside(operations, WaitReason::Refused, &error).await?;
        }
        Ok(())
    }

    /// Waits for the store writers, then completes and acknowledges. Returns the operations that a breaker holds, to
    /// be set aside: they are still where they were read from.
    async fn end(&self, batch: Batch) -> Result<HeldBack, Fault> {
        let Batch { operations, writes, rows, answers, refused, enqueued, merged_at, claims } = batch;
        let mut of_chunk: HashMap<Uuid, Failure> = HashMap::new();
        let (mut answered, mut left) = (Answered::default(), false);
        for (target, answer) in self.await_answers(&operations, &writes, merged_at, answers).await {
            // At a stop or the end of the term. The batch is in the log or the outbox, or among the waiting events.
            let Ok(results) = answer else {
                return Ok(HeldBack::default());
            };
            for (write, result) in writes.iter().zip(results) {
                let pending_write = PendingWrite { id: write.id, target, version: write.version };
                match result {
                    WriteResult::Durable => answered.durable.push(pending_write),
                    WriteResult::Pending => left = true,
                    WriteResult::Refused(fault) => {
                        of_chunk
                            .entry(write.id)
                            .or_insert(Failure { step: Step::Stores, fault, missing: Vec::new() })
                            .missing
                            .push(target);
                        answered.refused.push(pending_write);
                    }
                }
            }
        }
        let started = Instant::now();
        let ended = self.with_failures(operations, refused, &of_chunk);
        let done =
            Done { rows: rows.into_iter().collect(), durable: answered.durable.iter().map(|write| write.id).collect() };
        let verdicts = self.judge(&ended, &done);
        let (held, ended): (Vec<Ended>, Vec<Ended>) = ended.into_iter().partition(|ended| self.holds(&verdicts, ended));
        let closed = ended.is_empty() || self.close(&ended).await?;
        let held_chunks: HashSet<Uuid> = held.iter().map(|held| held.operation.event.chunk_id()).collect();
        let refused = answered.refused.len();
        answered.refused.retain(|write| closed && !held_chunks.contains(&write.id));
        left |= answered.refused.len() < refused;
        // A claim that is dropped otherwise makes the store writer look at the outbox.
        let struck_off = !enqueued || self.strike_off(answered).await;
        if struck_off && !left {
            claims.into_iter().for_each(Claim::completed);
        }
        if !ended.is_empty() {
            metrics::took(metrics::Operation::Settle, started);
            let ended: Vec<Operation> = ended.into_iter().map(|ended| ended.operation).collect();
            self.progress.completed(&ended);
        }
        Ok(HeldBack::of(held))
    }

    /// Each operation with its failure: that of its merge, or that of its chunk in a store.
    fn with_failures(
        &self,
        operations: Vec<Operation>,
        refused: Vec<(usize, Fault)>,
        of_chunk: &HashMap<Uuid, Failure>,
    ) -> Vec<Ended> {
        let mut refused: HashMap<usize, Fault> = refused.into_iter().collect();
        let ended = operations.into_iter().enumerate().map(|(i, operation)| {
            let failure = match refused.remove(&i) {
                Some(fault) => Some(Failure { step: Step::Merge, fault, missing: self.targets.to_vec() }),
                None => of_chunk.get(&operation.event.chunk_id()).cloned(),
            };
            Ended { operation, failure }
        });
        ended.collect()
    }

    /// Writes the dead letters of the failed operations, completes all operations in the log, acknowledges those that
    /// succeeded, and removes those that waited; false if the worker was stopped before the letters were written.
    async fn close(&self, ended: &[Ended]) -> Result<bool, Fault> {
        let endings: Vec<Ending<'_>> = ended
            .iter()
            .filter(|ended| self.is_logged(&ended.operation))
            .map(|Ended { operation, failure }| Ending {
                operation: &operation.id,
                error: failure.as_ref().map(|failure| failure.fault.to_string()),
            })
            .collect();
        let (mut finished, mut letters) = (Vec::new(), Vec::new());
        for Ended { operation, failure } in ended {
            let missing = failure.as_ref().map_or(&[][..], |failure| &failure.missing);
            for target in self.targets.iter().filter(|target| !missing.contains(target)) {
                metrics::durable(&operation.event, *target);
            }
            match failure {
                Some(failure) => letters.push(operation.letter(&failure.fault, missing, self.clock.now())),
                None if operation.entry.is_some() => {
                    metrics::completed(&operation.event, self.clock.now());
                    finished.extend(operation.on_bus());
                }
                None => {}
            }
        }
        // Before the log records the end: after a crash in between, the operation is refused and dead-lettered once
        // more, and never lost.
        if !self.dead_letter(&letters).await? {
            return Ok(false);
        }
        for Ended { operation, .. } in ended.iter().filter(|e| e.failure.is_some() && e.operation.is_from_log()) {
            self.given_up.note(&operation.event);
        }
        if !endings.is_empty() {
            self.log.complete(&endings).await?;
            failpoint::reached(CrashPoint::Completed);
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            self.acknowledge(&finished).await?;
        }
        self.end_waiting(ended).await
    }

    /// Removes the operations that waited from the table; what waits behind them is due.
    async fn end_waiting(&self, ended: &[Ended]) -> Result<bool, Fault> {
        let numbers: Vec<u64> = ended.iter().filter_map(|ended| ended.operation.waiting).collect();
        if numbers.is_empty() {
            return Ok(true);
        }
        self.remove_waiting(&numbers).await?;
        for Ended { operation, .. } in ended.iter().filter(|ended| ended.operation.waiting.is_some()) {
            self.room.proceed(operation.event.chunk_id());
        }
        Ok(true)
    }

    /// Removes events from the table of waiting events and retries until it answers. If the worker is stopped first,
    /// they are carried again later, which changes nothing.
    pub(crate) async fn remove_waiting(&self, numbers: &[u64]) -> Result<bool, Fault> {
        self.until_done("remove waiting events", || self.waiting.remove_waiting(numbers)).await
    }

    /// Whether the log holds the operation as pending: it was replayed from the log, or read from a bus whose entries
    /// the merge does not finish.
    fn is_logged(&self, operation: &Operation) -> bool {
        operation.is_from_log()
            || (operation.on_bus().is_some() && self.bus.finished_by() == FinishedBy::Acknowledgement)
    }

    /// Removes from the outbox the writes that a store holds and those that have a dead letter. Tried once: the drain
    /// of the outbox sends again what is left there, and the version of each write makes that harmless. Returns whether
    /// they were removed.
    async fn strike_off(&self, answered: Answered) -> bool {
        let pending_writes = [answered.durable, answered.refused].concat();
        if pending_writes.is_empty() {
            return true;
        }
        failpoint::reached(CrashPoint::Drained);
        let removed = self.records.drained(&pending_writes).await;
        if let Err(fault) = &removed {
            warn!(%fault, writes = pending_writes.len(), "could not clear completed writes from the outbox; resending");
        }
        removed.is_ok()
    }

    /// Writes the dead letters and retries until the bus has them; false if the worker was stopped first.
    pub(crate) async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<bool, Fault> {
        if letters.is_empty() {
            return Ok(true);
        }
        letters.iter().for_each(report_dead_letter);
        let dead_lettered = self.until_done("write dead letters", || self.bus.dead_letter(letters)).await?;
        failpoint::reached(CrashPoint::DeadLettered);
        Ok(dead_lettered)
    }

    /// Acknowledges and retries until the bus answers. If the worker is stopped first, the bus hands out the entries
    /// again later.
    pub(crate) async fn acknowledge(&self, finished: &[EntryId]) -> Result<(), Fault> {
        if finished.is_empty() {
            return Ok(());
        }
        self.until_done("acknowledge", || self.bus.acknowledge(finished)).await?;
        failpoint::reached(CrashPoint::Acknowledged);
        Ok(())
    }

    /// Repeats a call to a port until it succeeds or fails permanently; false if the worker was stopped or the term
    /// ended first.
    pub(crate) async fn until_done<'a, F, C>(&self, what: &'static str, call: C) -> Result<bool, Fault>
    where
        C: Fn() -> F,
        F: Future<Output = Result<(), Fault>> + 'a,
    {
        let attempt = || async {
            if !self.term.holds() {
                return Ok(false);
            }
            call().await.map(|()| true)
        };
        Ok(retry(&self.settings.worker, &self.stop, what, attempt).await?.unwrap_or(false))
    }
}
