//! What the service is doing right now, for reports and metrics; and the signal that stops it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_sync_model::merge::Outcome;
use chunk_sync_model::{Target, Time};
use tokio::sync::Notify;
use tracing::warn;

use crate::pipeline::apply::conflict_notes::ConflictCount;
use crate::pipeline::envelope::Operation;
use crate::ports::{BusCondition, EntryId, Fault};
use crate::runtime::clock::Clock;
use crate::runtime::latency::{Latencies, Spread};
use crate::runtime::metrics;
use crate::runtime::shared_value::SharedValue;
use crate::runtime::under_way::UnderWay;

/// The stop signal, sent once. Every clone receives it.
#[derive(Clone, Debug)]
pub(crate) struct Stop(SharedValue<bool>);

/// Sends the stop signal to every [`Stop`], at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Stopper(SharedValue<bool>);

impl Stopper {
    pub(crate) fn new() -> (Self, Stop) {
        let signal = SharedValue::new(false);
        (Self(signal.clone()), Stop(signal))
    }

    pub(crate) fn stop(&self) {
        self.0.change(|stop| *stop = true);
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stop {
    pub(crate) fn is_requested(&self) -> bool {
        self.0.read(|stop| *stop)
    }

    pub(crate) async fn requested(&self) {
        self.0.until(|stop| *stop).await;
    }

    /// The future's output; `None` if the stop came first.
    pub(crate) async fn during<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            output = future => Some(output),
        }
    }
}

/// What is under way and what has been done since the start.
#[derive(Debug)]
pub(crate) struct Progress {
    clock: Clock,
    inner: Mutex<Inner>,
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    under_way: UnderWay,
    completed: u64,
    conflicts: u64,
    left_open: u64,
    replayed: u64,
    records: Option<(Time, Fault)>,
    bus: BusCondition,
    clock: Option<(Time, Fault)>,
    ahead: Option<(EntryId, Time)>,
    latencies: Latencies,
}

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Events completed.
    pub completed: u64,
    /// Events read and not yet completed.
    pub under_way: u64,
    /// Conflicts: parts that two writers changed.
    pub conflicts: u64,
    /// Events replayed from the log at the start.
    pub replayed: u64,
}

impl Progress {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn took(&self, operations: &[Operation]) {
        let now = self.clock.now();
        let mut inner = self.lock();
        for operation in operations {
            inner.under_way.begin(&operation.id, operation.source(), now);
        }
    }

    pub(crate) fn completed(&self, operations: &[Operation]) {
        let mut inner = self.lock();
        for operation in operations {
            inner.under_way.end(&operation.id);
            if operation.entry.is_some() {
                inner.completed += 1;
            } else {
                inner.replayed += 1;
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What is set aside is not under way: it is among the waiting events.
    pub(crate) fn set_aside(&self, operations: &[Operation]) {
        let mut inner = self.lock();
        for operation in operations {
            inner.under_way.end(&operation.id);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What is under way is dropped: it belongs to the next holder of the lease.
    pub(crate) fn dropped(&self) {
        self.lock().under_way.clear();
        self.changed.notify_waiters();
    }

    /// Counts conflicts, and reports the share of all conflicts since the start that were decided automatically.
    pub(crate) fn count_conflicts(&self, conflicts: &[ConflictCount]) {
        let mut inner = self.lock();
        inner.conflicts += conflicts.len() as u64;
        inner.left_open += conflicts.iter().filter(|count| count.outcome == Outcome::Open).count() as u64;
        metrics::automatic(inner.conflicts, inner.left_open);
    }

    pub(crate) fn records_failed(&self, fault: &Fault) {
        let mut inner = self.lock();
        let since = inner.records.as_ref().map_or_else(|| self.clock.now(), |(since, _)| *since);
        inner.records = Some((since, fault.clone()));
    }

    pub(crate) fn records_answered(&self) {
        self.lock().records = None;
    }

    /// Since when the system of record has been failing, and its last fault.
    pub(crate) fn records(&self) -> Option<(Time, Fault)> {
        self.lock().records.clone()
    }

    /// Keeps the condition of the bus, and logs each condition that is new.
    pub(crate) fn note_bus(&self, condition: &BusCondition) {
        metrics::bus(condition);
        let before = std::mem::replace(&mut self.lock().bus, condition.clone());
        for warning in condition.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            warn!("{warning}");
        }
    }

    /// What the operator must know of the bus.
    pub(crate) fn bus(&self) -> BusCondition {
        self.lock().bus.clone()
    }

    /// Notes whether the clocks of process and bus differ too much; returns whether that has changed.
    pub(crate) fn clock_differs(&self, fault: Option<&Fault>) -> bool {
        let mut inner = self.lock();
        let changed = inner.clock.is_some() != fault.is_some();
        let since = inner.clock.as_ref().map_or_else(|| self.clock.now(), |(since, _)| *since);
        inner.clock = fault.map(|fault| (since, fault.clone()));
        changed
    }

    /// Since when the clocks of process and bus differ too much, and by how much.
    pub(crate) fn clock(&self) -> Option<(Time, Fault)> {
        self.lock().clock.clone()
    }

    /// Notes the entry of the last batch whose id lies ahead of the bus's clock, with that clock.
    pub(crate) fn entry_ahead(&self, ahead: Option<(EntryId, Time)>) {
        self.lock().ahead = ahead;
    }

    /// The entry of the last batch whose id lies ahead of the bus's clock, with that clock.
    pub(crate) fn ahead(&self) -> Option<(EntryId, Time)> {
        self.lock().ahead
    }

    /// Notes that changes became visible in a store at `at`, and the seconds that each took.
    pub(crate) fn visible(&self, target: Target, seconds: impl Iterator<Item = f64>, at: Time) {
        let mut inner = self.lock();
        for seconds in seconds {
            metrics::visible(target, seconds);
            inner.latencies.note(target, seconds, at);
        }
    }

    /// Per store, how long changes of the last five minutes took to become visible.
    pub(crate) fn latencies(&self) -> BTreeMap<Target, Spread> {
        self.lock().latencies.spreads(self.clock.now())
    }

    pub(crate) fn done(&self) -> Done {
        let inner = self.lock();
        let under_way = inner.under_way.len() as u64;
        Done { completed: inner.completed, under_way, conflicts: inner.conflicts, replayed: inner.replayed }
    }

    /// Notes that a store holds these operations, or has nothing to write for them.
    pub(crate) fn held<'a>(&self, target: Target, operations: impl Iterator<Item = &'a Operation>) {
        let mut inner = self.lock();
        for operation in operations {
            inner.under_way.held(&operation.id, target);
        }
    }

    /// Reports the age of the oldest event under way that each store does not hold, per source.
    pub(crate) fn show_lag(&self, targets: &[Target]) {
        let (now, inner) = (self.clock.now(), self.lock());
        for target in targets {
            for (source, seconds) in inner.under_way.lag(*target, now) {
                metrics::lag(source, *target, seconds);
            }
        }
    }
}
