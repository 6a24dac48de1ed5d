//! Faults between a process and its services, drawn call by call; and the death of a process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Target;
use chunk_sync_samples::rng::Rng;
use tokio::time::Instant;

use super::tally::Tally;

/// A service that a process calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Bus,
    Lease,
    Store(Target),
}

/// Fault rates, each in calls of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FaultRates {
    /// The call fails, and had no effect.
    pub(super) refusals: usize,
    /// The call took effect, and the answer is lost.
    pub(super) lost: usize,
    /// The call is slow, before or after it takes effect.
    pub(super) delays: usize,
    /// The service is unreachable from now on for a while.
    pub(super) partitions: usize,
}

/// The faults of all services.
pub(super) struct Faults(Mutex<FaultState>);

pub(super) struct FaultState {
    pub(super) rng: Rng,
    pub(super) tally: Tally,
    rates: BTreeMap<Endpoint, FaultRates>,
    /// Unreachable before this instant.
    cut_off: BTreeMap<Endpoint, Instant>,
    calm: bool,
    /// One merge in this many takes long.
    slow_merges: usize,
    /// Writes that were sent and will be applied late.
    pub(super) on_the_way: u64,
}

/// The outcome of a call.
pub(super) enum Fate {
    Done,
    Refused(Fault),
    /// It took effect, but the caller gets an error.
    Lost,
}

impl Faults {
    pub(super) fn new(rng: Rng, rates: BTreeMap<Endpoint, FaultRates>, slow_merges: usize) -> Self {
        let (tally, cut_off, calm) = (Tally::default(), BTreeMap::new(), false);
        Self(Mutex::new(FaultState { rng, tally, rates, cut_off, calm, slow_merges, on_the_way: 0 }))
    }

    pub(super) fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.0.lock().unwrap()
    }

    /// Makes the service unreachable for this time.
    pub(super) fn cut_off(&self, place: Endpoint, time: Duration) {
        self.fault_state().cut_off.insert(place, Instant::now() + time);
    }

    /// How long a merge takes.
    pub(super) fn merge_takes(&self) -> Duration {
        let mut fault_state = self.fault_state();
        let one_in = fault_state.slow_merges;
        match !fault_state.calm && fault_state.rng.one_in(one_in) {
            true => Duration::from_millis(fault_state.rng.below(6_000) as u64),
            false => Duration::ZERO,
        }
    }

    /// How long a process stands still during a merge, which continues on the server.
    pub(super) fn sleeps_over_merge(&self) -> Option<Duration> {
        let mut fault_state = self.fault_state();
        let sleeps = !fault_state.calm && fault_state.rng.one_in(20);
        fault_state.tally.pauses += u64::from(sleeps);
        sleeps.then(|| Duration::from_millis(fault_state.rng.below(8_000) as u64))
    }

    /// Ends all faults, except at services that are cut off.
    pub(super) fn clear(&self) {
        let mut fault_state = self.fault_state();
        fault_state.calm = true;
        fault_state.rates.clear();
    }

    /// Begins faults with these rates once more.
    pub(super) fn resume(&self, rates: BTreeMap<Endpoint, FaultRates>) {
        let mut fault_state = self.fault_state();
        (fault_state.calm, fault_state.rates) = (false, rates);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.fault_state().calm
    }

    /// Makes the services that are cut off reachable again.
    pub(super) fn rejoin(&self) {
        self.fault_state().cut_off.clear();
    }
}

impl FaultState {
    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }

    fn chance(&mut self, thousandths: usize) -> bool {
        thousandths > 0 && self.rng.below(1000) < thousandths
    }

    pub(super) fn fate(&mut self, place: Endpoint) -> (Fate, Duration) {
        let rates = self.rates.get(&place).copied().unwrap_or_default();
        if self.chance(rates.partitions) {
            let until = Instant::now() + Duration::from_millis(self.rng.below(60_000) as u64);
            let cut_off = self.cut_off.entry(place).or_insert(until);
            *cut_off = until.max(*cut_off);
            self.tally.partitions += 1;
        }
        if self.cut_off.get(&place).is_some_and(|until| *until > Instant::now()) {
            self.tally.refused += 1;
            // Refused at once, or no answer until the caller times out.
            let wait = if self.rng.one_in(2) { 0 } else { self.rng.below(5_000) as u64 };
            return (Fate::Refused(refusal(FaultClass::Unavailable)), Duration::from_millis(wait));
        }
        let delay = self.delay(rates);
        if self.chance(rates.refusals) {
            self.tally.refused += 1;
            let classes = [FaultClass::Unavailable, FaultClass::Timeout, FaultClass::Busy, FaultClass::Denied];
            let class = classes[self.rng.below(classes.len())];
            return (Fate::Refused(refusal(class)), delay);
        }
        if self.chance(rates.lost) {
            self.tally.lost += 1;
            return (Fate::Lost, delay);
        }
        (Fate::Done, delay)
    }

    fn delay(&mut self, rates: FaultRates) -> Duration {
        if !self.chance(rates.delays) {
            return Duration::ZERO;
        }
        let longest = [2, 50, 1_000, 10_000][self.rng.below(4)];
        Duration::from_millis(1 + self.rng.below(longest) as u64)
    }

    pub(super) fn delay_after(&mut self, place: Endpoint) -> Duration {
        let rates = self.rates.get(&place).copied().unwrap_or_default();
        self.delay(rates)
    }
}

pub(super) fn refusal(class: FaultClass) -> Fault {
    Fault::new(class, "simulation", "injected fault")
}
