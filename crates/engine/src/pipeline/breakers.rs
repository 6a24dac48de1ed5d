//! The breakers of a process: one for each step that may refuse an event, and for each kind of event there.
//!
//! A result is evidence only about its own kind. A delete passes the limits of a chunk's text, and a captured change has its
//! row already: if they counted, one wrong limit would dead-letter every published chunk of an installation whose
//! application also writes by SQL. For the same reason an event that a step had nothing to do for is no evidence.

use std::time::Duration;

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, EventType, Time, Writer};
use uuid::Uuid;

use super::breaker::{Breaker, Verdict};
use crate::ports::Fault;

/// A step that may refuse an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A limit, the list of models or the clock.
    Admission,
    /// The system of record.
    Merge,
    /// A store, after the merge.
    Stores,
}

/// What can be refused about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A published state of a chunk: the limits apply to it, and its merge writes the row.
    State,
    /// A signal that a row was written.
    Signal,
    Delete,
}

const KINDS: [Kind; 3] = [Kind::State, Kind::Signal, Kind::Delete];

impl Kind {
    pub(crate) fn of(event: &Event) -> Self {
        match (event.kind, event.writer) {
            (EventType::Delete, _) => Self::Delete,
            (_, Writer::Postgres) => Self::Signal,
            _ => Self::State,
        }
    }

    /// The kind of an entry that is not accepted as an event.
    pub(crate) fn of_fields(fields: &Fields) -> Self {
        let is = |name: &str, text: &str| {
            fields.iter().any(|(n, value)| (&n[..], &value[..]) == (name.as_bytes(), text.as_bytes()))
        };
        match (is("type", EventType::Delete.as_str()), is("writer", Writer::Postgres.as_str())) {
            (true, _) => Self::Delete,
            (_, true) => Self::Signal,
            _ => Self::State,
        }
    }
}

/// How an event ended at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) kind: Kind,
    pub(crate) chunk: Uuid,
    /// Why the step refused it, if it did.
    pub(crate) fault: Option<&'a Fault>,
    /// It was held before: its refusal counts only while there is no verdict, so that many held ones cannot outweigh the
    /// successes of others.
    pub(crate) again: bool,
}

/// What the last results at a step show about a refusal of each kind.
pub(crate) struct Verdicts([Verdict; KINDS.len()]);

impl Verdicts {
    pub(crate) fn of(&self, kind: Kind) -> Verdict {
        self.0[kind as usize]
    }
}

/// By step and kind.
#[derive(Debug)]
pub(crate) struct Breakers([[Breaker; KINDS.len()]; 3]);

impl Default for Breakers {
    fn default() -> Self {
        let of_stores = || KINDS.map(|_| Breaker::of_stores());
        Self([KINDS.map(|_| Breaker::of_admission()), of_stores(), of_stores()])
    }
}

impl Breakers {
    /// Records how events ended at this step, and judges the refusals.
    pub(crate) fn judge(&self, step: Step, evidence: &[Evidence<'_>], now: Time) -> Verdicts {
        let of_kind = |kind: Kind| {
            let breaker = &self.0[step as usize][kind as usize];
            let unknown = breaker.verdict() == Verdict::Unknown;
            let counts = |of: &&Evidence<'_>| of.kind == kind && (of.fault.is_none() || !of.again || unknown);
            breaker.judge(evidence.iter().filter(counts).map(|of| (of.chunk, of.fault)), now)
        };
        Verdicts(KINDS.map(of_kind))
    }

    /// Since when one of them holds, and why.
    pub(crate) fn held(&self) -> Option<(Time, Fault)> {
        self.0.iter().flatten().find_map(Breaker::held)
    }

    /// Why nearly all chunks are refused, if that has lasted longer than `patience`.
    pub(crate) fn lasting(&self, now: Time, patience: Duration) -> Option<Fault> {
        self.0.iter().flatten().find_map(|breaker| breaker.lasting(now, patience))
    }

    /// Whether nearly everything of a kind is refused by the system of record or by a store.
    pub(crate) fn hold_after_admission(&self) -> bool {
        [Step::Merge, Step::Stores].iter().flat_map(|step| &self.0[*step as usize]).any(|of| of.held().is_some())
    }
}
