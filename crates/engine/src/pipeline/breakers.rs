//! The breakers of a process, one for each step that may refuse an event: admission, merge and stores.
//!
//! A success is evidence only of an event that the step could have refused. A delete and a captured change pass each limit,
//! and a captured change has its row already. If they counted, one wrong limit would dead-letter every published event of
//! an installation whose application also writes by SQL.

use std::time::Duration;

use chunk_sync_model::{Body, Cause, Event, EventType, Time};
use uuid::Uuid;

use super::breaker::Breaker;
use super::envelope::{Operation, Refusal};
use crate::ports::Fault;

/// How a chunk ended at a step: with this fault, or well.
pub(crate) type Evidence<'a> = (Uuid, Option<&'a Fault>);

#[derive(Debug)]
pub(crate) struct Breakers {
    /// Judges what a limit, the list of models or the clock refuses.
    pub(crate) admission: Breaker,
    /// Judges what the system of record refuses.
    pub(crate) merge: Breaker,
    /// Judges what a store refuses after the merge.
    pub(crate) stores: Breaker,
}

impl Default for Breakers {
    fn default() -> Self {
        Self { admission: Breaker::of_admission(), merge: Breaker::of_stores(), stores: Breaker::of_stores() }
    }
}

impl Breakers {
    fn all(&self) -> [&Breaker; 3] {
        [&self.merge, &self.stores, &self.admission]
    }

    /// Since when one of them holds, and why.
    pub(crate) fn held(&self) -> Option<(Time, Fault)> {
        self.all().into_iter().find_map(Breaker::held)
    }

    /// Why nearly all chunks are refused at a step, if that has lasted longer than `patience`.
    pub(crate) fn lasting(&self, now: Time, patience: Duration) -> Option<Fault> {
        self.all().into_iter().find_map(|breaker| breaker.lasting(now, patience))
    }

    /// Whether the system of record or a store has refused chunks, and too few to judge.
    pub(crate) fn lacks_evidence(&self) -> bool {
        [&self.merge, &self.stores].into_iter().any(Breaker::lacks_evidence)
    }
}

/// Whether the event carries a state that the limits apply to and that its merge writes into the row.
fn is_published_state(operation: &Operation) -> bool {
    !operation.is_signal() && matches!(operation.event.body, Body::Chunk(_))
}

/// What an entry that was read shows about the limits.
pub(crate) fn of_admission(read: &Result<Operation, Box<Refusal>>) -> Option<Evidence<'_>> {
    match read {
        Ok(operation) => is_published_state(operation).then(|| (operation.event.chunk_id(), None)),
        Err(refusal) => Some((refusal.chunk.filter(|_| refusal.cause != Cause::Format)?, Some(&refusal.fault))),
    }
}

/// What an operation shows about the merge, which refused it with this fault or merged it.
pub(crate) fn of_merge<'a>(operation: &Operation, fault: Option<&'a Fault>) -> Option<Evidence<'a>> {
    (fault.is_some() || is_published_state(operation)).then(|| (operation.event.chunk_id(), fault))
}

/// What a merged operation shows about the stores, of which one refused it with this fault or all took it.
pub(crate) fn of_stores<'a>(event: &Event, fault: Option<&'a Fault>) -> Option<Evidence<'a>> {
    (fault.is_some() || event.kind != EventType::Delete).then(|| (event.chunk_id(), fault))
}
