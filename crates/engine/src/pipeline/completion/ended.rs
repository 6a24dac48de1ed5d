//! How the operations of a batch ended, and what the breakers make of their failures.

use std::collections::HashSet;

use chunk_sync_model::Target;
use uuid::Uuid;

use crate::pipeline::breaker::Verdict;
use crate::pipeline::breakers::{Evidence, Kind, Step, Verdicts};
use crate::pipeline::envelope::Operation;
use crate::pipeline::worker::Worker;
use crate::ports::Fault;

/// An operation of a batch, and why it failed if it did.
pub(super) struct Ended {
    pub(super) operation: Operation,
    pub(super) failure: Option<Failure>,
}

/// Why an operation cannot succeed, and the stores that do not hold it.
#[derive(Clone)]
pub(super) struct Failure {
    /// The step that refused the operation.
    pub(super) step: Step,
    pub(super) fault: Fault,
    pub(super) missing: Vec<Target>,
}

/// The chunks of a batch for which something was done.
pub(super) struct Done {
    /// The merge has changed their rows.
    pub(super) rows: HashSet<Uuid>,
    /// A store has answered that it holds them.
    pub(super) durable: HashSet<Uuid>,
}

impl Done {
    /// Whether this step had something to do for the operation that it could have refused.
    fn by(&self, step: Step, operation: &Operation) -> bool {
        let chunk = operation.event.chunk_id();
        let (row_changed, is_durable) = (self.rows.contains(&chunk), self.durable.contains(&chunk));
        match (step, Kind::of(&operation.event)) {
            // The row was read, even if it had not changed.
            (Step::Merge, Kind::Signal) => true,
            (Step::Merge, _) => row_changed,
            // A store ignores what it has already. What was held, it had refused.
            (_, Kind::State) => is_durable && (row_changed || operation.held),
            _ => is_durable,
        }
    }
}

impl Ended {
    fn kind(&self) -> Kind {
        Kind::of(&self.operation.event)
    }

    /// What the operation shows about this step; nothing if it did not get there, or the step had nothing to do for it.
    fn evidence(&self, step: Step, done: &Done) -> Option<Evidence<'_>> {
        let (kind, chunk) = (self.kind(), self.operation.event.chunk_id());
        let fault = match &self.failure {
            Some(failure) if failure.step == step => Some(&failure.fault),
            Some(failure) if failure.step == Step::Merge => return None,
            _ => None,
        };
        (fault.is_some() || done.by(step, &self.operation)).then_some(Evidence {
            kind,
            chunk,
            fault,
            again: self.operation.held,
        })
    }
}

/// What the last results show about a refusal by the merge and by a store.
pub(super) struct OfSteps {
    merge: Verdicts,
    stores: Verdicts,
}

impl Worker {
    /// Judges the failures. Operations that succeeded count too: they show that the failures are poison and not a
    /// configuration error.
    pub(super) fn judge(&self, ended: &[Ended], done: &Done) -> OfSteps {
        let verdicts = |step| {
            let evidence: Vec<Evidence<'_>> = ended.iter().filter_map(|ended| ended.evidence(step, done)).collect();
            self.breakers.judge(step, &evidence, self.clock.now())
        };
        OfSteps { merge: verdicts(Step::Merge), stores: verdicts(Step::Stores) }
    }

    /// Whether an operation failed and is held. One that was held before is dead-lettered on evidence only.
    pub(super) fn holds(&self, verdicts: &OfSteps, ended: &Ended) -> bool {
        let Some(failure) = &ended.failure else { return false };
        let verdicts = if failure.step == Step::Merge { &verdicts.merge } else { &verdicts.stores };
        let verdict = verdicts.of(ended.kind());
        let holds = verdict == Verdict::Hold || (verdict == Verdict::Unknown && ended.operation.held);
        self.settings.worker.hold && holds
    }
}
