//! How the operations of a batch ended, and what the breakers make of their failures.

use chunk_sync_model::Target;

use crate::pipeline::breaker::{Breaker, Verdict};
use crate::pipeline::breakers::{self, Evidence};
use crate::pipeline::envelope::Operation;
use crate::pipeline::worker::Worker;
use crate::ports::Fault;

/// An operation of a batch, and why it failed if it did.
pub(super) struct Ended {
    pub(super) operation: Operation,
    pub(super) failure: Option<Failure>,
}

impl Ended {
    /// The fault with which this step refused the operation.
    fn fault_of(&self, step: Step) -> Option<&Fault> {
        self.failure.as_ref().filter(|failure| failure.step == step).map(|failure| &failure.fault)
    }

    /// What the operation shows about this step; nothing if it did not get there.
    fn evidence(&self, step: Step) -> Option<Evidence<'_>> {
        let fault = self.fault_of(step);
        match step {
            Step::Merge => breakers::of_merge(&self.operation, fault),
            Step::Stores if self.fault_of(Step::Merge).is_some() => None,
            Step::Stores => breakers::of_stores(&self.operation.event, fault),
        }
    }
}

/// Why an operation cannot succeed, and the stores that do not hold it.
#[derive(Clone)]
pub(super) struct Failure {
    /// The step that refused the operation.
    pub(super) step: Step,
    pub(super) fault: Fault,
    pub(super) missing: Vec<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Merge,
    Stores,
}

/// What the last results show about a refusal by each step.
pub(super) struct Verdicts {
    merge: Verdict,
    stores: Verdict,
}

impl Worker {
    /// Judges the failures. Operations that succeeded count too: they show that the failures are poison and not a
    /// configuration error. The failure of an operation that was held before counts only while there is no verdict, so
    /// that many held ones cannot outweigh the successes of others.
    pub(super) fn judge(&self, ended: &[Ended]) -> Verdicts {
        let verdict = |breaker: &Breaker, step| {
            let unknown = breaker.verdict() == Verdict::Unknown;
            let counts = |ended: &&Ended| ended.failure.is_none() || !ended.operation.held || unknown;
            let evidence = ended.iter().filter(counts).filter_map(|ended| ended.evidence(step));
            breaker.judge(evidence, self.clock.now())
        };
        Verdicts {
            merge: verdict(&self.breakers.merge, Step::Merge),
            stores: verdict(&self.breakers.stores, Step::Stores),
        }
    }

    /// Whether an operation failed and is held. One that was held before is dead-lettered on evidence only.
    pub(super) fn holds(&self, verdicts: &Verdicts, ended: &Ended) -> bool {
        let verdict = match ended.failure.as_ref().map(|failure| failure.step) {
            None => return false,
            Some(Step::Merge) => verdicts.merge,
            Some(Step::Stores) => verdicts.stores,
        };
        let holds = verdict == Verdict::Hold || (verdict == Verdict::Unknown && ended.operation.held);
        self.settings.worker.hold && holds
    }
}
