//! The condition of a store: whether it fails, and whether it is behind. Shared by its store writer, the worker and the
//! reports, across the terms of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_model::{Target, Time};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ports::Fault;
use crate::runtime::clock::Clock;

/// The condition of a store, shared by its store writer and the reports.
#[derive(Clone, Debug)]
pub(crate) struct SharedCondition {
    condition: Arc<Mutex<Condition>>,
    clock: Clock,
}

/// The condition of a store.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Since when it has been failing, and its last fault.
    pub failing: Option<(Time, Fault)>,
    /// The store is behind: new writes for it go into the outbox, until the outbox is drained.
    pub behind: bool,
    /// Pending writes in the outbox that the store refuses: they stay there until their chunks change.
    pub refused: u64,
    /// Pending writes in the outbox that take too long: they are repeated alone.
    pub heavy: u64,
    /// Since when it has been failing, by the timer that also counts the pauses.
    failing_since: Option<Instant>,
}

impl Condition {
    /// The condition of a store that has been failing since then, with its last fault.
    #[must_use]
    pub fn of(failing: Option<(Time, Fault)>) -> Self {
        Self { failing, ..Self::default() }
    }
}

impl SharedCondition {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { condition: Arc::default(), clock }
    }

    /// The condition now.
    pub(crate) fn get(&self) -> Condition {
        self.lock().clone()
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.lock().behind
    }

    pub(super) fn set_behind(&self, behind: bool) {
        self.lock().behind = behind;
    }

    pub(super) fn set_refused(&self, refused: usize) {
        self.lock().refused = refused as u64;
    }

    pub(super) fn set_heavy(&self, heavy: usize) {
        self.lock().heavy = heavy as u64;
    }

    /// How long the store has been failing, across terms.
    pub(super) fn failing_for(&self) -> Duration {
        self.lock().failing_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Records whether the store is failing, and logs when that changes.
    pub(super) fn observe(&self, target: Target, fault: Option<&Fault>) {
        let mut condition = self.lock();
        match (&condition.failing, fault) {
            (None, Some(fault)) => {
                warn!(%target, %fault, "the store failed; retrying while the other stores continue");
            }
            (Some((since, _)), None) => {
                info!(%target, %since, "the store answered again");
            }
            _ => {}
        }
        condition.failing_since = fault.map(|_| condition.failing_since.unwrap_or_else(Instant::now));
        condition.failing = fault.map(|fault| {
            (condition.failing.as_ref().map_or_else(|| self.clock.now(), |(since, _)| *since), fault.clone())
        });
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
