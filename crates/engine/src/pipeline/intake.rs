//! From deliveries to durable operations: parsed, admitted, in the log. Also the log lines of entries for which the bus
//! still answers. `worker.rs` has the crash table.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::pipeline::carried::Answer;
use crate::pipeline::envelope::{self, Operation, Refusal};
use crate::pipeline::log::Ending;
use crate::pipeline::resolutions;
use crate::pipeline::suspects::Accusation;
use crate::pipeline::worker::Worker;
use crate::ports::{DeadLetter, Delivery, EntryId, Fault, FinishedBy};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::metrics;
use crate::runtime::retry::Pauses;

impl Worker {
    /// Completes in the log those carried lines whose entries the bus has finished.
    pub(crate) async fn ask_the_bus(&self) -> Result<Answer, Fault> {
        if self.carried.is_empty() {
            return Ok(Answer::Kept);
        }
        let asked = async {
            let oldest = self.bus.depth().await?.oldest;
            // Asked after the depth: if the epoch is still the same, the bus has finished every entry that it no longer
            // has.
            Ok::<_, Fault>((oldest, self.bus.epoch().await? == *self.epoch))
        };
        match asked.await {
            Ok((oldest, true)) => self.complete_carried(self.carried.finished(oldest)).await.map(|()| Answer::Kept),
            Ok((_, false)) => Ok(Answer::Lost),
            // The lines stay pending.
            Err(_) => Ok(Answer::Unknown),
        }
    }

    /// Whether what was delivered may be carried before the carried lines; false if the bus has lost their entries. Then
    /// the delivered entries were added later, and the lines are replayed first. Retries until the bus answers or the
    /// worker is stopped.
    pub(super) async fn keeps_carried(&self) -> Result<bool, Fault> {
        let mut pauses = Pauses::new(&self.settings.worker);
        loop {
            match self.ask_the_bus().await? {
                Answer::Kept => return Ok(true),
                Answer::Lost => return Ok(false),
                Answer::Unknown => {}
            }
            if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                return Ok(true);
            }
        }
    }

    async fn complete_carried(&self, lines: Vec<String>) -> Result<(), Fault> {
        if lines.is_empty() {
            return Ok(());
        }
        let endings: Vec<Ending<'_>> = lines.iter().map(|line| Ending { operation: line, error: None }).collect();
        self.log.complete(&endings).await
    }

    /// From delivery to durable operations. Empty if nothing is left to carry, or the worker was stopped first.
    pub(super) async fn take(
        &self,
        deliveries: Vec<Delivery>,
        accusation: &mut Accusation,
    ) -> Result<Vec<Operation>, Fault> {
        failpoint::reached(CrashPoint::Read);
        self.clocks.examine(&deliveries);
        let now = self.clock.now();
        let (mut read, mut letters) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            let fatal = accusation.of(&delivery, self.settings.worker.max_deliveries);
            match Operation::of(delivery, &self.settings.limits, now) {
                Ok(operation) if fatal => {
                    let fault = envelope::fatal(operation.tries - 1);
                    letters.push(operation.letter(&fault, &self.targets, now));
                }
                Ok(operation) => read.push(Ok(operation.within(&self.targets))),
                Err(refusal) => read.push(Err(refusal)),
            }
        }
        let read = self.without_forged(read, &mut letters).await;
        self.dead_letter(&letters).await?;
        let Some(operations) = self.admit(read).await? else { return Ok(Vec::new()) };
        let (mut operations, known): (Vec<_>, Vec<_>) = operations.into_iter().partition(|o| !self.given_up.awaited(o));
        let known: Vec<EntryId> = known.iter().filter_map(|o| Some(o.entry.as_ref()?.id)).collect();
        self.acknowledge(&known).await?;
        self.progress.took(&operations);
        if !operations.is_empty() && self.bus.finished_by() == FinishedBy::Acknowledgement {
            let started = Instant::now();
            let refused = self.log.append(&operations, &self.epoch, &self.stop).await?;
            operations = self.refuse_too_long(operations, refused).await?;
            self.complete_carried(self.carried.superseded(&operations)).await?;
            metrics::took(metrics::Operation::Wal, started);
            failpoint::reached(CrashPoint::Logged);
        }
        Ok(operations)
    }

    /// Dead-letters the operations that are too long for the log, by index, and returns the others.
    async fn refuse_too_long(
        &self,
        operations: Vec<Operation>,
        refused: Vec<(usize, Fault)>,
    ) -> Result<Vec<Operation>, Fault> {
        let mut refused: BTreeMap<usize, Fault> = refused.into_iter().collect();
        let (mut kept, mut long, mut letters) = (Vec::with_capacity(operations.len()), Vec::new(), Vec::new());
        for (i, operation) in operations.into_iter().enumerate() {
            match refused.remove(&i) {
                Some(fault) => {
                    letters.push(operation.letter(&fault, &self.targets, self.clock.now()));
                    long.push(operation);
                }
                None => kept.push(operation),
            }
        }
        self.dead_letter(&letters).await?;
        self.progress.completed(&long);
        Ok(kept)
    }

    /// Without the events by `operator` that resolve no recorded conflict: those become dead letters. Retries until the
    /// record of conflicts can be read; if the worker is stopped first, the bus hands out the rest again.
    async fn without_forged(
        &self,
        read: Vec<Result<Operation, Box<Refusal>>>,
        letters: &mut Vec<DeadLetter>,
    ) -> Vec<Result<Operation, Box<Refusal>>> {
        let (mut kept, mut pauses) = (Vec::with_capacity(read.len()), Pauses::new(&self.settings.worker));
        for read in read {
            let refusal = loop {
                let Ok(operation) = &read else { break None };
                match resolutions::refusal(&*self.records, &operation.event).await {
                    Ok(refusal) => break refusal,
                    Err(fault) => self.progress.records_failed(&fault),
                }
                if self.stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                    return kept;
                }
            };
            match (read, refusal) {
                (Ok(operation), Some(fault)) => letters.push(operation.letter(&fault, &self.targets, self.clock.now())),
                (read, _) => kept.push(read),
            }
        }
        kept
    }
}
