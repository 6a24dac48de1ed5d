//! Delivers what waits for one store: one call for all that waits, up to a number and a size. What fails is repeated
//! after a pause while newer writes of other chunks continue, and left to the outbox after a time.
//!
//! A call that takes too long, although the store answers, contains a heavy write. Its writes are left to the outbox, so
//! that their batches end and their events are acknowledged, and are sent apart, in ever smaller groups (`isolation.rs`),
//! beside the calls with all other writes.
//!
//! # What a crash does
//! The outbox has a write before it is answered as pending. What is sent apart is therefore in the outbox, or in the log
//! or on the bus if the outbox does not answer.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::access::{StoreAccess, pending_write};
use super::backlog::{Backlog, CALL_BYTES, Due, WriteResult};
use super::drain::OutboxDrain;
use super::isolation::{Isolation, Weighed};
use crate::ports::{Applied, FaultClass, Policy, Write};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::retry::Pauses;

/// The number of chunks that wait above which nothing is read from the outbox while some of them fail.
const STUCK: usize = 512;

/// The longest pause while the store is behind: the outbox grows meanwhile.
const BEHIND_PAUSE: Duration = Duration::from_secs(1);

/// The writes that wait for one store, and when those that failed are due again.
pub(super) struct Delivery {
    pub(super) backlog: Backlog,
    pub(super) isolation: Isolation,
    pauses: Pauses,
    retry_at: Option<Instant>,
    /// The last call had no success: nothing is sent before the next retry.
    silent: bool,
    main: Option<UnderWay>,
    apart: Option<UnderWay>,
    /// The number of the next call.
    next: u64,
}

/// A call that is under way.
#[derive(Clone, Copy)]
struct UnderWay {
    number: u64,
    since: Instant,
}

/// A call of each route may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Everything that waits.
    Main,
    /// One group that is sent apart.
    Apart,
}

/// A call with its writes.
pub(super) struct Call {
    number: u64,
    route: Route,
    due: Vec<Due>,
}

/// A call that has ended.
pub(super) struct Answered {
    call: Call,
    /// `None` if the term ended.
    answers: Option<Vec<Applied>>,
    /// Whether the store answers, so that it is a write that takes too long.
    alive: bool,
}

impl Call {
    pub(super) async fn send(self, access: &StoreAccess) -> Answered {
        let writes: Vec<Write> = self.due.iter().map(|due| due.write.clone()).collect();
        let answers = access.apply(&writes, self.route == Route::Apart).await;
        let takes_too_long = answers.iter().flatten().any(takes_too_long);
        let alive = takes_too_long && access.answers().await;
        Answered { call: self, answers, alive }
    }
}

impl Delivery {
    pub(super) fn new(access: &StoreAccess) -> Self {
        Self {
            backlog: Backlog::default(),
            isolation: Isolation::default(),
            pauses: Pauses::new(&access.settings),
            retry_at: None,
            silent: false,
            main: None,
            apart: None,
            next: 0,
        }
    }

    /// Whether there is room for writes of the outbox: all that waits is sent apart, or failed while others succeeded.
    pub(super) fn is_idle(&self) -> bool {
        let stuck = self.backlog.has_failed() && (self.silent || self.backlog.len() > STUCK);
        self.main.is_none() && !self.backlog.has_fresh() && !stuck
    }

    /// Waits until something is due in a route that has no call under way; forever if nothing waits.
    pub(super) async fn is_due(&self, access: &StoreAccess) -> Route {
        tokio::select! {
            biased;
            () = self.main_is_due(), if self.main.is_none() => Route::Main,
            () = self.main_is_slow(access), if self.apart.is_none() && self.backlog.has_fresh() => Route::Main,
            () = self.apart_is_due(), if self.apart.is_none() => Route::Apart,
            else => std::future::pending().await,
        }
    }

    /// Waits until the call under way takes longer than others have to wait for it.
    async fn main_is_slow(&self, access: &StoreAccess) {
        match self.main {
            Some(UnderWay { since, .. }) => tokio::time::sleep_until(since + access.settings.patience).await,
            None => std::future::pending().await,
        }
    }

    async fn main_is_due(&self) {
        match self.retry_at {
            _ if self.backlog.has_fresh() && !(self.silent && self.retry_at.is_some()) => {}
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    async fn apart_is_due(&self) {
        match self.isolation.due() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// The next call of the route; `None` if nothing is left to send.
    pub(super) async fn begin(&mut self, route: Route, access: &StoreAccess, drain: &mut OutboxDrain) -> Option<Call> {
        let due = match route {
            Route::Main => {
                // A slow call goes on beside the next one.
                self.apart = self.main.take().or(self.apart);
                let (culprits, due) = self.take(access);
                self.keep_apart(&culprits, access, drain).await;
                culprits.iter().for_each(|due| self.isolation.wait(due.write.id, Instant::now()));
                self.leave_overdue(access, due).await
            }
            Route::Apart => {
                let group = self.isolation.take(Instant::now());
                let due = group.into_iter().filter_map(|id| self.backlog.due(id)).collect();
                self.leave_overdue(access, due).await
            }
        };
        if due.is_empty() {
            self.plan_retry(access);
            return None;
        }
        let (number, since) = (self.next, Instant::now());
        self.next += 1;
        match route {
            Route::Main => self.main = Some(UnderWay { number, since }),
            Route::Apart => self.apart = Some(UnderWay { number, since }),
        }
        Some(Call { number, route, due })
    }

    /// Takes what is due: the writes of known culprits, and all others.
    fn take(&mut self, access: &StoreAccess) -> (Vec<Due>, Vec<Due>) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.backlog.retry_failed();
        }
        let due = self.backlog.take(access.settings.store_batch.max(1), CALL_BYTES);
        due.into_iter().partition(|due| self.isolation.is_culprit(due.write.id))
    }

    /// Records the answers of a call. Without a term everything is dropped: the log or the outbox has it.
    pub(super) async fn record(&mut self, answered: Answered, access: &StoreAccess, drain: &mut OutboxDrain) {
        let Answered { call: Call { number, route, due }, answers, alive } = answered;
        let other = |call: &UnderWay| call.number != number;
        (self.main, self.apart) = (self.main.filter(other), self.apart.filter(other));
        let Some(answers) = answers else {
            self.backlog.clear();
            self.isolation.clear();
            return;
        };
        let success = answers.iter().any(Applied::is_durable);
        if success {
            failpoint::reached(CrashPoint::Stored);
        }
        if route == Route::Main {
            self.silent = !success;
        }
        let (mut heavy, mut failed) = (Vec::new(), Vec::new());
        for (due, answer) in due.into_iter().zip(answers) {
            match answer {
                Applied::Written | Applied::Skipped => {
                    self.isolation.answered(due.write.id);
                    self.backlog.answer(&due, &WriteResult::Durable);
                }
                answer if alive && takes_too_long(&answer) => heavy.push(due),
                Applied::Failed(fault) => match fault.policy() {
                    Policy::DeadLetter => {
                        self.isolation.answered(due.write.id);
                        self.backlog.answer(&due, &WriteResult::Refused(fault));
                    }
                    // A store whose disk failed is retried as well: its other writes go into the outbox meanwhile.
                    Policy::RetryAlone | Policy::Wait | Policy::Stop => failed.push(due),
                },
            }
        }
        self.put_off(route, &failed, access);
        self.isolate(&heavy, access, drain).await;
        self.plan_retry(access);
    }

    /// The store failed: the same writes are due again after a pause.
    fn put_off(&mut self, route: Route, failed: &[Due], access: &StoreAccess) {
        match route {
            Route::Main => failed.iter().for_each(|due| self.backlog.failed(due)),
            Route::Apart if failed.is_empty() => {}
            Route::Apart => {
                failed.iter().for_each(|due| self.backlog.note_failure(due));
                let ids = failed.iter().map(|due| due.write.id).collect();
                self.isolation.put_back(ids, Instant::now() + access.settings.retry_max);
            }
        }
    }

    /// One of the writes takes too long.
    async fn isolate(&mut self, heavy: &[Due], access: &StoreAccess, drain: &mut OutboxDrain) {
        if heavy.is_empty() {
            return;
        }
        let target = access.target();
        match heavy {
            [alone] => warn!(%target, chunk = %alone.write.id, "the write takes too long; it is repeated alone"),
            _ => warn!(%target, writes = heavy.len(), "a call takes too long although the store answers; splitting it"),
        }
        self.keep_apart(heavy, access, drain).await;
        heavy.iter().for_each(|due| self.backlog.note_failure(due));
        let group = heavy.iter().map(|due| Weighed { id: due.write.id, weight: due.write.weight() });
        self.isolation.split(group.collect(), Instant::now());
    }

    /// Leaves the writes to the outbox, so that no batch waits for them, and keeps them as writes of the outbox. If the
    /// outbox does not take them now, their batches wait for the store.
    async fn keep_apart(&mut self, due: &[Due], access: &StoreAccess, drain: &mut OutboxDrain) {
        let missing = due.iter().filter(|due| !due.from_outbox && !due.enqueued).map(|due| &due.write);
        if access.enqueue(missing).await {
            for due in due.iter().filter(|due| !due.from_outbox) {
                let pending_write = pending_write(&due.write, access.target());
                self.backlog.rest(due, drain.adopt(pending_write, due.write.clone()));
            }
        }
    }

    fn plan_retry(&mut self, access: &StoreAccess) {
        self.retry_at = match (self.backlog.has_failed(), self.retry_at) {
            (true, None) => {
                let longest = if access.condition.is_behind() { BEHIND_PAUSE } else { Duration::MAX };
                Some(Instant::now() + self.pauses.next().min(longest))
            }
            (true, at) => at,
            (false, _) => {
                self.pauses = Pauses::new(&access.settings);
                None
            }
        };
    }

    /// Leaves to the outbox what the store has failed to take for too long; returns the rest.
    async fn leave_overdue(&mut self, access: &StoreAccess, due: Vec<Due>) -> Vec<Due> {
        // The failure time counts across terms: a store that failed through terms shorter than the patience gets no
        // new patience in each term.
        let all = access.condition.is_behind() || access.condition.failing_for() > access.settings.patience;
        let overdue = |due: &Due| {
            !due.from_outbox && (all || due.failing_since.is_some_and(|at| at.elapsed() > access.settings.patience))
        };
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

fn takes_too_long(answer: &Applied) -> bool {
    matches!(answer, Applied::Failed(fault) if fault.class == FaultClass::Timeout)
}
