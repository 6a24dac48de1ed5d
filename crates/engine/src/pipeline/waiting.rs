//! Setting aside what cannot be merged now, and carrying it later. [`WaitingEvents`](crate::ports::WaitingEvents) has the
//! crash table.
//!
//! An operation is set aside because its row is locked or refers to a row of another table that is missing, because a
//! store refuses nearly everything, because a setting or the clock refuses the event, or because an earlier event of its
//! chunk waits. It is added to the table first; then it is complete in the log and acknowledged on the bus. From there the
//! drain carries it on the same path as every other operation, the events of a chunk in their order, and removes it once
//! it has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use chunk_sync_model::Cause;
use tracing::warn;
use uuid::Uuid;

use crate::pipeline::breaker::Verdict;
use crate::pipeline::breakers::{Evidence, Kind, Step};
use crate::pipeline::envelope::{Operation, Refusal};
use crate::pipeline::log::Ending;
use crate::pipeline::worker::Worker;
use crate::ports::{EntryId, Fault, FinishedBy, NewWaiting, WaitReason};

mod drain;

/// First pause before a locked row is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause before a locked row is tried again.
const LOCKED_LONGEST: Duration = Duration::from_secs(1);

/// How long a refusal by a setting or the clock waits for evidence; then it is dead-lettered.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(2);

/// Longest pause before what is held is tried again, in units of `retry_max`.
const HELD_LONGEST: u32 = 12;

/// Longest error text in the table.
const ERROR_CHARS: usize = 500;

const BEHIND: &str = "an earlier event of the chunk waits";

impl Worker {
    /// Decides on what was read from the bus: writes the dead letters of what can never succeed, sets aside what a setting
    /// or the clock refuses together with every other event of those chunks and of chunks that wait already, and returns
    /// the rest. `None` if the worker was stopped or the term ended first.
    pub(crate) async fn admit(
        &self,
        read: Vec<Result<Operation, Box<Refusal>>>,
    ) -> Result<Option<Vec<Operation>>, Fault> {
        let evidence: Vec<Evidence<'_>> = read.iter().filter_map(evidence).collect();
        let verdicts = self.breakers.judge(Step::Admission, &evidence, self.clock.now());
        let held = |refusal: &Refusal| {
            let holds = self.settings.worker.hold && verdicts.of(refusal.kind) != Verdict::Poison;
            refusal.chunk.filter(|_| holds && refusal.cause != Cause::Format)
        };
        let chunks: BTreeSet<Uuid> = read.iter().filter_map(|read| held(read.as_ref().err()?)).collect();
        let waits = |chunk: Uuid| chunks.contains(&chunk) || self.room.contains(chunk);
        let (mut operations, mut waiting, mut letters) = (Vec::with_capacity(read.len()), Vec::new(), Vec::new());
        for read in read {
            match read {
                Ok(operation) if waits(operation.event.chunk_id()) => {
                    waiting.push(operation.to_waiting(WaitReason::Behind, BEHIND));
                }
                Ok(operation) => operations.push(operation),
                Err(refusal) => match held(&refusal) {
                    Some(chunk) => waiting.push(refusal.to_waiting(chunk)),
                    None => letters.push(refusal.letter),
                },
            }
        }
        self.dead_letter(&letters).await?;
        Ok(self.park(&waiting).await?.then_some(operations))
    }

    /// Adds events from the bus, which the log does not have, to the table and finishes them on the bus.
    pub(crate) async fn park(&self, events: &[NewWaiting]) -> Result<bool, Fault> {
        if events.is_empty() {
            return Ok(true);
        }
        let entries: Vec<EntryId> = events.iter().filter_map(|event| event.entry).collect();
        if !self.add_waiting(events, &entries).await? {
            return Ok(false);
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            self.acknowledge(&entries).await?;
        }
        Ok(true)
    }

    /// Sets those operations from the log aside whose chunks have waiting events, and returns the others. `None` if the
    /// worker was stopped or the term ended first.
    pub(crate) async fn behind_waiting(&self, operations: Vec<Operation>) -> Result<Option<Vec<Operation>>, Fault> {
        let (behind, rest): (Vec<_>, Vec<_>) =
            operations.into_iter().partition(|operation| self.room.contains(operation.event.chunk_id()));
        Ok(self.set_aside(behind, WaitReason::Behind, BEHIND).await?.then_some(rest))
    }

    /// Moves operations into the table of waiting events, in their order, and finishes them in the log and on the bus.
    /// Those that the table has already stay there, and their chunks are put off. False if the worker was stopped or the
    /// term ended first: then they are where they were.
    pub(crate) async fn set_aside(
        &self,
        operations: Vec<Operation>,
        reason: WaitReason,
        error: &str,
    ) -> Result<bool, Fault> {
        let error: String = error.chars().take(ERROR_CHARS).collect();
        let (stored, new): (Vec<Operation>, Vec<Operation>) = operations.into_iter().partition(|o| o.waiting.is_some());
        self.keep_waiting(&stored, reason, &error).await;
        self.progress.set_aside(&stored);
        if new.is_empty() {
            return Ok(true);
        }
        let events: Vec<NewWaiting> = new.iter().map(|operation| operation.to_waiting(reason, &error)).collect();
        if !self.add_waiting(&events, &on_bus(&new)).await? {
            return Ok(false);
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement || new.iter().any(|o| o.entry.is_none()) {
            // An operation that was not logged is not pending there, and its ending is ignored.
            let endings: Vec<Ending<'_>> = new.iter().map(|o| Ending { operation: &o.id, error: None }).collect();
            self.log.complete(&endings).await?;
        }
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            self.acknowledge(&on_bus(&new)).await?;
        }
        self.progress.set_aside(&new);
        Ok(true)
    }

    async fn add_waiting(&self, events: &[NewWaiting], finished: &[EntryId]) -> Result<bool, Fault> {
        let pause = |reason| match reason {
            WaitReason::Locked => LOCKED_PAUSE,
            WaitReason::Refused => self.settings.worker.retry_max,
            WaitReason::Setting | WaitReason::Clock => EVIDENCE_WITHIN,
            WaitReason::Behind => Duration::ZERO,
        };
        events.iter().for_each(|event| self.room.begin_add(event.chunk, pause(event.reason)));
        self.room.amount.add(events);
        let added =
            self.until_done("add waiting events", || self.waiting.add_waiting(events, &self.fence, finished)).await;
        events.iter().for_each(|event| self.room.end_add(event.chunk));
        added
    }

    /// Notes why these events, which the table has, still wait, and puts their chunks off.
    async fn keep_waiting(&self, operations: &[Operation], reason: WaitReason, error: &str) {
        let chunks: BTreeSet<Uuid> = operations.iter().map(|operation| operation.event.chunk_id()).collect();
        chunks.into_iter().for_each(|chunk| self.put_off(chunk, reason));
        let numbers: Vec<u64> = operations.iter().filter_map(|operation| operation.waiting).collect();
        self.explain(&numbers, reason, error).await;
    }

    fn put_off(&self, chunk: Uuid, reason: WaitReason) {
        let longest = self.settings.worker.retry_max;
        match reason {
            WaitReason::Locked => self.room.put_off(chunk, LOCKED_PAUSE, LOCKED_LONGEST.min(longest)),
            _ => self.room.put_off(chunk, self.settings.worker.retry_min, longest * HELD_LONGEST),
        }
    }

    /// For reports only, so a failure is logged and nothing else.
    async fn explain(&self, numbers: &[u64], reason: WaitReason, error: &str) {
        if numbers.is_empty() {
            return;
        }
        if let Err(fault) = self.waiting.explain_waiting(numbers, reason, error).await {
            warn!(%fault, events = numbers.len(), "could not record why events wait; they are carried nevertheless");
        }
    }
}

/// What an entry that was read shows about the limits, the models and the clock.
fn evidence(read: &Result<Operation, Box<Refusal>>) -> Option<Evidence<'_>> {
    let (kind, chunk, fault) = match read {
        Ok(operation) => (Kind::of(&operation.event), operation.event.chunk_id(), None),
        Err(refusal) if refusal.cause == Cause::Format => return None,
        Err(refusal) => (refusal.kind, refusal.chunk?, Some(&refusal.fault)),
    };
    Some(Evidence { kind, chunk, fault, again: false })
}

/// The entries of the operations that are on the bus.
fn on_bus(operations: &[Operation]) -> Vec<EntryId> {
    operations.iter().filter_map(Operation::on_bus).collect()
}
