//! Settling a batch: every store holds it, or what a store misses is in the outbox → completion in the log →
//! acknowledged on the bus, in that order.
//!
//! If the merge has finished the entries and put the writes into the outbox, there is neither a completion nor an
//! acknowledgement: dead letters → removal from the outbox. A write that a store has not answered stays in the outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chunk_sync_model::Target;
use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use crate::pipeline::breaker::Breaker;
use crate::pipeline::claims::Claim;
use crate::pipeline::envelope::{Operation, report_dead_letter};
use crate::pipeline::given_up::GivenUp;
use crate::pipeline::log::{Ending, Log};
use crate::pipeline::store_writer::WriteResult;
use crate::ports::{Bus, DeadLetter, EntryId, Fault, FinishedBy, PendingWrite, Records, Write};
use crate::runtime::clock::Clock;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::lease::Term;
use crate::runtime::metrics;
use crate::runtime::progress::{Progress, Stop};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::Settings;

/// A batch that was handed to the store writers.
pub(crate) struct Batch {
    pub(crate) operations: Vec<Operation>,
    pub(crate) writes: Arc<[Write]>,
    /// The pending answer of each store writer, one result per write.
    pub(crate) answers: Vec<(Target, oneshot::Receiver<Vec<WriteResult>>)>,
    /// Operations that the system of record refused.
    pub(crate) refused: Vec<(usize, Fault)>,
    /// The merge has put the writes into the outbox.
    pub(crate) enqueued: bool,
    /// The claims that keep the drain of the outbox away from these chunks until the batch is settled.
    pub(crate) claims: Vec<Claim>,
}

/// Settles batches.
pub(crate) struct Completion {
    pub(crate) bus: Arc<dyn Bus>,
    /// The stores of the installation, the system of record first.
    pub(crate) targets: Arc<[Target]>,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) given_up: Arc<GivenUp>,
    pub(crate) term: Term,
    pub(crate) stop: Stop,
}

/// Why an operation cannot succeed, and the stores that do not hold it.
struct Failure {
    fault: Fault,
    missing: Vec<Target>,
}

/// Writes of the outbox that were sent directly, by how the store answered.
#[derive(Default)]
struct Answered {
    durable: Vec<PendingWrite>,
    refused: Vec<PendingWrite>,
}

impl Completion {
    /// Waits for the store writers, then completes and acknowledges. Returns the operations that the breaker holds, to
    /// be carried again: they are still pending in the log and on the bus, or in the outbox.
    pub(crate) async fn settle(&self, batch: Batch) -> Result<Vec<Operation>, Fault> {
        let Batch { operations, writes, answers, refused, enqueued, claims } = batch;
        let mut failures: HashMap<Uuid, Failure> = HashMap::new();
        let (mut answered, mut left) = (Answered::default(), false);
        for (i, fault) in refused {
            let missing = self.targets.to_vec();
            failures.insert(operations[i].event.chunk_id(), Failure { fault, missing });
        }
        for (target, answer) in answers {
            // The store writer has ended, because the process is stopping or the term is over. The batch is in the log
            // or the outbox.
            let Ok(results) = answer.await else {
                return Ok(Vec::new());
            };
            for (write, result) in writes.iter().zip(results) {
                let pending_write = PendingWrite { id: write.id, target, version: write.version };
                match result {
                    WriteResult::Durable => answered.durable.push(pending_write),
                    WriteResult::Pending => left = true,
                    WriteResult::Refused(fault) => {
                        failures.entry(write.id).or_insert(Failure { fault, missing: Vec::new() }).missing.push(target);
                        answered.refused.push(pending_write);
                    }
                }
            }
        }
        let started = Instant::now();
        let may_dead_letter = self.may_dead_letter(&operations, &failures);
        let (mut held, ended): (Vec<_>, Vec<_>) = operations
            .into_iter()
            .partition(|operation| !may_dead_letter && failures.contains_key(&operation.event.chunk_id()));
        let closed = ended.is_empty() || self.close(&ended, &failures).await?;
        if !closed || !may_dead_letter {
            left |= !answered.refused.is_empty();
            answered.refused.clear();
        }
        // A claim that is dropped otherwise makes the store writer look at the outbox.
        let struck_off = !enqueued || self.strike_off(answered).await;
        if struck_off && !left {
            claims.into_iter().for_each(Claim::settled);
        }
        if !ended.is_empty() {
            metrics::took(metrics::Operation::Settle, started);
            self.progress.settled(&ended);
        }
        held.iter_mut().for_each(|operation| operation.repeated = true);
        Ok(held)
    }

    /// Whether the failures may go to the dead letters. The breaker also counts the operations that succeeded: they
    /// show that the failures are poison and not a configuration error.
    fn may_dead_letter(&self, operations: &[Operation], failures: &HashMap<Uuid, Failure>) -> bool {
        let ended = operations.iter().map(|operation| {
            let chunk = operation.event.chunk_id();
            (chunk, failures.get(&chunk).map(|failure| &failure.fault))
        });
        self.breaker.judge(ended, self.clock.now()) || !self.settings.worker.hold
    }

    /// Writes the dead letters of the failed operations, completes all operations in the log and acknowledges those
    /// that succeeded; false if the worker was stopped before the letters were written.
    async fn close(&self, operations: &[Operation], failures: &HashMap<Uuid, Failure>) -> Result<bool, Fault> {
        let failure = |operation: &Operation| failures.get(&operation.event.chunk_id());
        let endings: Vec<Ending<'_>> = operations
            .iter()
            .filter(|operation| self.is_logged(operation))
            .map(|operation| Ending {
                operation: &operation.id,
                error: failure(operation).map(|f| f.fault.to_string()),
            })
            .collect();
        let (mut finished, mut letters) = (Vec::new(), Vec::new());
        for operation in operations {
            let missing = failure(operation).map_or(&[][..], |failure| &failure.missing);
            for target in self.targets.iter().filter(|target| !missing.contains(target)) {
                metrics::durable(&operation.event, *target);
            }
            match (&operation.entry, failure(operation)) {
                (Some(entry), None) => {
                    metrics::settled(&operation.event, self.clock.now());
                    finished.push(entry.id);
                }
                (_, Some(failure)) => letters.push(operation.letter(&failure.fault, missing, self.clock.now())),
                (None, None) => {}
            }
        }
        // Before the log records the end: after a crash in between, the operation is refused and dead-lettered once
        // more, and never lost.
        if !self.dead_letter(&letters).await? {
            return Ok(false);
        }
        for operation in operations.iter().filter(|operation| operation.entry.is_none()) {
            if failure(operation).is_some() {
                self.given_up.note(&operation.event);
            }
        }
        if !endings.is_empty() {
            self.log.complete(&endings).await?;
            failpoint::reached(CrashPoint::Completed);
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            self.acknowledge(&finished).await?;
        }
        Ok(true)
    }

    /// Whether the log holds the operation: it was replayed from the log, or the merge does not finish its entry.
    fn is_logged(&self, operation: &Operation) -> bool {
        operation.entry.is_none() || self.bus.finished_by() == FinishedBy::Acknowledgement
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
            warn!(%fault, writes = pending_writes.len(), "could not clear settled writes from the outbox; resending");
        }
        removed.is_ok()
    }

    /// Writes the dead letters and retries until the bus has them; false if the worker was stopped first.
    pub(crate) async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<bool, Fault> {
        if letters.is_empty() {
            return Ok(true);
        }
        letters.iter().for_each(report_dead_letter);
        let dead_lettered = self.until_done(|| self.bus.dead_letter(letters)).await?;
        failpoint::reached(CrashPoint::DeadLettered);
        Ok(dead_lettered)
    }

    /// Acknowledges and retries until the bus answers. If the worker is stopped first, the bus hands out the entries
    /// again later.
    pub(crate) async fn acknowledge(&self, finished: &[EntryId]) -> Result<(), Fault> {
        if finished.is_empty() {
            return Ok(());
        }
        self.until_done(|| self.bus.acknowledge(finished)).await?;
        failpoint::reached(CrashPoint::Acknowledged);
        Ok(())
    }

    /// Repeats a call to the bus until it succeeds or fails permanently; false if the worker was stopped or the term
    /// ended first.
    async fn until_done<'a, F, C>(&self, call: C) -> Result<bool, Fault>
    where
        C: Fn() -> F,
        F: Future<Output = Result<(), Fault>> + 'a,
    {
        let mut pauses = Pauses::new(&self.settings.worker);
        while self.term.holds() {
            match call().await {
                Ok(()) => return Ok(true),
                Err(fault) if fault.class.is_transient() => {
                    warn!(%fault, "the bus failed; retrying");
                    if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                        return Ok(false);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(false)
    }
}
