//! What capture is doing, since when, and how far it is behind: for status, readiness and metrics. It is also known
//! while capture does not run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_sync_model::Time;

use crate::ports::{Fault, Gap};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;

/// What capture is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another process works the stream and captures.
    Standby,
    /// It opens the log.
    Opening,
    /// It reads the log.
    Running,
    /// It read the log and waits, because the bus is full.
    BusFull,
    /// It failed and opens the log again soon.
    Failed,
}

impl Phase {
    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Opening => "opening",
            Self::Running => "running",
            Self::BusFull => "bus_full",
            Self::Failed => "failed",
        }
    }

    /// Whether the log is open: changes arrive, or wait for room on the bus.
    #[must_use]
    pub fn runs(self) -> bool {
        matches!(self, Self::Running | Self::BusFull)
    }
}

/// The state of capture.
#[derive(Clone, Debug)]
pub struct CaptureState {
    /// What it does now.
    pub phase: Phase,
    /// Since when it runs, or since when it does not.
    pub since: Time,
    /// Why it does not run, or the last fault while it runs: a heartbeat that failed.
    pub fault: Option<Fault>,
    /// What keeps the log from being opened: the sessions that the creation of the slot waits for.
    pub obstacle: Option<String>,
    /// The bytes of log that the server keeps for capture; `None` if the server did not answer.
    pub lag_bytes: Option<u64>,
    /// The gap whose changes are being looked for.
    pub gap: Option<Gap>,
    /// The number of gaps since the start.
    pub gaps: u64,
}

/// The shared state of capture. Clones show the same state.
#[derive(Clone, Debug)]
pub struct CaptureMonitor {
    state: Arc<Mutex<CaptureState>>,
    clock: Clock,
}

impl CaptureMonitor {
    pub(super) fn new(clock: Clock) -> Self {
        let state = CaptureState {
            phase: Phase::Standby,
            since: clock.now(),
            fault: None,
            obstacle: None,
            lag_bytes: None,
            gap: None,
            gaps: 0,
        };
        metrics::capturing(false, state.since);
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> CaptureState {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, CaptureState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `since` moves only when capture begins or ceases to run.
    pub(super) fn enter(&self, phase: Phase, fault: Option<Fault>) {
        let mut state = self.locked();
        if state.phase.runs() != phase.runs() || (state.phase == Phase::Standby) != (phase == Phase::Standby) {
            state.since = self.clock.now();
        }
        (state.phase, state.fault) = (phase, fault);
        if phase != Phase::Opening {
            state.obstacle = None;
        }
        metrics::capturing(phase.runs(), state.since);
    }

    /// The last fault of opening the log stays visible while it is opened again.
    pub(super) fn open(&self) {
        let fault = self.locked().fault.clone();
        self.enter(Phase::Opening, fault);
    }

    pub(super) fn heartbeat(&self, fault: Option<Fault>) {
        self.locked().fault = fault;
    }

    pub(super) fn measured(&self, lag_bytes: Option<u64>) {
        self.locked().lag_bytes = lag_bytes;
        metrics::capture_lag(lag_bytes);
    }

    pub(super) fn obstacle(&self, obstacle: Option<String>) {
        let mut state = self.locked();
        if state.phase == Phase::Opening {
            state.obstacle = obstacle;
        }
    }

    pub(super) fn gap(&self, gap: Option<Gap>) {
        let mut state = self.locked();
        if let Some(gap) = gap.filter(|_| state.gap.is_none()) {
            state.gaps += 1;
            metrics::gap(gap);
        }
        state.gap = gap;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::ports::FaultClass;

    #[test]
    fn the_time_is_that_of_the_last_change_between_running_and_not() {
        let now = Arc::new(AtomicI64::new(1));
        let reads = Arc::clone(&now);
        let clock = Clock::new(move || Timestamp::from_second(reads.load(Ordering::Relaxed)).unwrap_or_default());
        let monitor = CaptureMonitor::new(clock);
        let at = |second| {
            now.store(second, Ordering::Relaxed);
        };
        let since = || monitor.state().since.micros() / 1_000_000;
        at(2);
        monitor.open();
        assert_eq!(since(), 2, "it stood by until now");
        at(3);
        monitor.enter(Phase::Failed, Some(Fault::new(FaultClass::Busy, "test", "in use")));
        at(4);
        monitor.open();
        assert_eq!((since(), monitor.state().fault.is_some()), (2, true), "it has not run since");
        at(5);
        monitor.enter(Phase::Running, None);
        at(6);
        monitor.enter(Phase::BusFull, None);
        assert_eq!(since(), 5, "the log is still open");
    }
}
