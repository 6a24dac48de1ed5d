//! Delivers what waits for one store: one call for all that waits, up to a number and a size. What fails is repeated
//! after a pause while newer writes of other chunks continue, and left to the outbox after a time.

use tokio::time::Instant;

use super::access::StoreAccess;
use super::backlog::{Backlog, Due, WriteResult};
use crate::ports::{Applied, Policy, Write};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::retry::Pauses;

/// The size of one call, in bytes.
const CALL_BYTES: usize = 4 << 20;

/// The writes that wait for one store, and when those that failed are due again.
pub(super) struct Delivery {
    pub(super) backlog: Backlog,
    pauses: Pauses,
    retry_at: Option<Instant>,
    /// The last call had no success: nothing is sent before the next retry.
    silent: bool,
}

impl Delivery {
    pub(super) fn new(access: &StoreAccess) -> Self {
        Self { backlog: Backlog::default(), pauses: Pauses::new(&access.settings), retry_at: None, silent: false }
    }

    /// Waits until something is due; forever if nothing waits.
    pub(super) async fn is_due(&self) {
        match self.retry_at {
            _ if self.backlog.has_fresh() && !(self.silent && self.retry_at.is_some()) => {}
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// One call to the store with what is due. Without a term everything is dropped: the log or the outbox has it.
    pub(super) async fn send(&mut self, access: &StoreAccess) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.backlog.retry_failed();
        }
        let due = self.backlog.take(access.settings.store_batch.max(1), CALL_BYTES);
        let due = self.leave_overdue(access, due).await;
        if due.is_empty() {
            return;
        }
        let writes: Vec<Write> = due.iter().map(|due| due.write.clone()).collect();
        match access.apply(&writes).await {
            Some(answers) => self.record(&due, answers),
            None => self.backlog.clear(),
        }
        self.retry_at = match (self.backlog.has_failed(), self.retry_at) {
            (true, None) => Some(Instant::now() + self.pauses.next()),
            (true, at) => at,
            (false, _) => {
                self.pauses = Pauses::new(&access.settings);
                None
            }
        };
    }

    fn record(&mut self, due: &[Due], answers: Vec<Applied>) {
        self.silent = !answers.iter().any(Applied::is_durable);
        if !self.silent {
            failpoint::reached(CrashPoint::Stored);
        }
        for (due, answer) in due.iter().zip(answers) {
            match answer {
                Applied::Written | Applied::Skipped => self.backlog.answer(due, &WriteResult::Durable),
                Applied::Failed(fault) => match fault.policy() {
                    Policy::DeadLetter => self.backlog.answer(due, &WriteResult::Refused(fault)),
                    // A store whose disk failed is retried as well: its other writes go into the outbox meanwhile.
                    Policy::RetryAlone | Policy::Wait | Policy::Stop => self.backlog.failed(due),
                },
            }
        }
    }

    /// Leaves to the outbox what the store has failed to take for too long; returns the rest.
    async fn leave_overdue(&mut self, access: &StoreAccess, due: Vec<Due>) -> Vec<Due> {
        // The failure time counts across terms: a store that failed through terms shorter than the patience gets no
        // new patience in each term.
        let all = access.condition.is_behind() || access.condition.failing_for() > access.settings.patience;
        let overdue = |due: &Due| all || due.failing_since.is_some_and(|at| at.elapsed() > access.settings.patience);
        let (overdue, mut rest): (Vec<Due>, Vec<Due>) = due.into_iter().partition(overdue);
        if overdue.is_empty() {
            return rest;
        }
        let missing = overdue.iter().filter(|due| !due.enqueued).map(|due| &due.write);
        if access.leave(missing).await {
            overdue.iter().for_each(|due| self.backlog.answer(due, &WriteResult::Pending));
        } else {
            rest.extend(overdue);
        }
        rest
    }
}
