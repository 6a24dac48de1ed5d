//! Settling: every store holds the batch, or its debt is recorded → completion in the log → acknowledged on the bus, in
//! that order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chunk_sync_model::Target;
use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use crate::clock::Clock;
use crate::lane::Landed;
use crate::log::{Ending, Log};
use crate::metrics;
use crate::operation::{Operation, say_set_aside};
use crate::ports::{Bus, Fault, Write};
use crate::progress::{Progress, Stop};
use crate::retry::Pauses;
use crate::settings::Settings;

/// A batch that has been handed to the lanes.
pub(crate) struct Batch {
    pub(crate) operations: Vec<Operation>,
    pub(crate) writes: Arc<[Write]>,
    /// What each lane will answer, one answer a write.
    pub(crate) answers: Vec<(Target, oneshot::Receiver<Vec<Landed>>)>,
    /// Operations that the system of record refused.
    pub(crate) refused: Vec<(usize, Fault)>,
}

/// What settles batches.
pub(crate) struct Settler {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Stop,
}

/// Why an operation cannot succeed, and the stores that do not hold it.
struct Failure {
    fault: Fault,
    missing: Vec<Target>,
}

impl Settler {
    /// Waits for the lanes, then completes and acknowledges.
    pub(crate) async fn settle(self, batch: Batch) -> Result<(), Fault> {
        let Batch { operations, writes, answers, refused } = batch;
        let mut failures: HashMap<Uuid, Failure> = HashMap::new();
        for (i, fault) in refused {
            let missing = Target::ALL.to_vec();
            failures.insert(operations[i].event.chunk_id(), Failure { fault, missing });
        }
        for (target, answer) in answers {
            // The lane has ended: the process is stopping, and the log has the batch.
            let Ok(landed) = answer.await else {
                return Ok(());
            };
            for (write, fault) in writes.iter().zip(landed).filter_map(|(write, landed)| Some((write, landed.err()?))) {
                failures.entry(write.id).or_insert(Failure { fault, missing: Vec::new() }).missing.push(target);
            }
        }
        let started = Instant::now();
        self.close(&operations, &failures).await?;
        metrics::took(metrics::Operation::Settle, started);
        self.progress.settled(&operations);
        Ok(())
    }

    async fn close(&self, operations: &[Operation], failures: &HashMap<Uuid, Failure>) -> Result<(), Fault> {
        let failure = |operation: &Operation| failures.get(&operation.event.chunk_id());
        let endings: Vec<Ending<'_>> = operations
            .iter()
            .map(|operation| Ending {
                operation: &operation.id,
                error: failure(operation).map(|f| f.fault.to_string()),
            })
            .collect();
        let (mut finished, mut letters) = (Vec::new(), Vec::new());
        for operation in operations {
            let missing = failure(operation).map_or(&[][..], |failure| &failure.missing);
            for target in Target::ALL.iter().filter(|target| !missing.contains(target)) {
                metrics::durable(&operation.event, *target);
            }
            match (&operation.entry, failure(operation)) {
                (Some(entry), None) => {
                    metrics::settled(&operation.event, self.clock.now());
                    finished.push(entry.id);
                }
                (Some(entry), Some(failure)) => {
                    let mut letter = entry.letter(&failure.fault, self.clock.now());
                    letter.missing.clone_from(&failure.missing);
                    say_set_aside(&letter);
                    letters.push(letter);
                }
                (None, _) => {}
            }
        }
        if !letters.is_empty() {
            self.until_done(|| self.bus.bury(&letters)).await?;
        }
        self.log.complete(&endings).await?;
        if !finished.is_empty() {
            self.until_done(|| self.bus.acknowledge(&finished)).await?;
        }
        Ok(())
    }

    /// Repeats a call to the bus until it succeeds or fails for good. Where the worker is stopped first, the entries are
    /// handed out again later.
    pub(crate) async fn until_done<'a, F, C>(&self, call: C) -> Result<(), Fault>
    where
        C: Fn() -> F,
        F: Future<Output = Result<(), Fault>> + 'a,
    {
        let mut pauses = Pauses::new(&self.settings.worker);
        loop {
            match call().await {
                Ok(()) => return Ok(()),
                Err(fault) if fault.class.is_transient() => {
                    warn!(%fault, "the bus fails: trying again");
                    if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                        return Ok(());
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}
