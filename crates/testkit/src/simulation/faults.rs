//! Faults between a process and its services, drawn call by call; and the death of a process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use chunk_sync_model::Target;
use chunk_sync_samples::rng::Rng;
use chunk_sync_wal::testing::CrashDisk;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

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
    pub(super) fn new(rng: Rng, rates: BTreeMap<Endpoint, FaultRates>) -> Self {
        let (tally, cut_off, calm) = (Tally::default(), BTreeMap::new(), false);
        Self(Mutex::new(FaultState { rng, tally, rates, cut_off, calm, on_the_way: 0 }))
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
        match !fault_state.calm && fault_state.rng.one_in(20) {
            true => Duration::from_millis(fault_state.rng.below(6_000) as u64),
            false => Duration::ZERO,
        }
    }

    /// How long a process stands still during a merge, which continues on the server.
    pub(super) fn sleeps_over_merge(&self) -> Option<Duration> {
        let mut fault_state = self.fault_state();
        let sleeps = !fault_state.calm && fault_state.rng.one_in(40);
        fault_state.tally.pauses += u64::from(sleeps);
        sleeps.then(|| Duration::from_millis(fault_state.rng.below(8_000) as u64))
    }

    /// Ends all faults, except at services that are cut off.
    pub(super) fn clear(&self) {
        let mut fault_state = self.fault_state();
        fault_state.calm = true;
        fault_state.rates.clear();
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

    fn fate(&mut self, place: Endpoint) -> (Fate, Duration) {
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

    fn delay_after(&mut self, place: Endpoint) -> Duration {
        let rates = self.rates.get(&place).copied().unwrap_or_default();
        self.delay(rates)
    }
}

fn refusal(class: FaultClass) -> Fault {
    Fault::new(class, "simulation", "injected fault")
}

/// Given once and never reset. Waiters are woken in the order of waiting, which is the same in every run.
#[derive(Default)]
pub(super) struct Signal {
    given: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(super) fn give(&self) {
        self.given.store(true, Ordering::Relaxed);
        self.waiting.notify_waiters();
    }

    pub(super) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    pub(super) async fn given(&self) {
        let waiting = self.waiting.notified();
        if !self.is_given() {
            waiting.await;
        }
    }
}

/// A process, from its start to its death. Calls after its death never complete.
pub(super) struct Life {
    dead: Signal,
    /// Beginnings and ends of calls that are left until it dies.
    calls_left: AtomicU64,
    /// Number of beginnings and ends of calls until it stands still, and for how long.
    pause: Mutex<Option<(u64, Duration)>>,
    /// It stands still until this instant.
    still_until: Mutex<Option<Instant>>,
    disk: Option<CrashDisk>,
}

impl Life {
    /// A process with that disk, which dies during the given call.
    pub(super) fn new(disk: Option<CrashDisk>, calls_left: Option<u64>) -> Arc<Self> {
        let calls_left = AtomicU64::new(calls_left.unwrap_or(u64::MAX));
        let (pause, still_until) = (Mutex::default(), Mutex::default());
        Arc::new(Self { dead: Signal::default(), calls_left, pause, still_until, disk })
    }

    /// Makes it stand still during the given call.
    pub(super) fn pause_at(&self, calls: u64, time: Duration) {
        *self.pause.lock().unwrap() = Some((calls, time));
    }

    /// Makes it stand still from now on, for this time.
    pub(super) fn fall_asleep(&self, time: Duration) {
        *self.still_until.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Waits while it stands still.
    pub(super) async fn awake(&self) {
        loop {
            let until = *self.still_until.lock().unwrap();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Counts a call; returns whether the process stands still from now on.
    fn falls_asleep(&self) -> bool {
        let mut pause = self.pause.lock().unwrap();
        let Some((calls, time)) = &mut *pause else { return false };
        *calls = calls.saturating_sub(1);
        if *calls > 0 {
            return false;
        }
        self.fall_asleep(*time);
        *pause = None;
        true
    }

    /// Kills the process.
    pub(super) fn end(&self) {
        if let Some(disk) = &self.disk {
            disk.power_off_after(0);
        }
        self.dead.give();
    }

    /// Waits for its death.
    pub(super) async fn over(&self) {
        self.dead.given().await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.dead.is_given()
    }
}

/// The connection from a process to a service.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) faults: Arc<Faults>,
    pub(super) life: Arc<Life>,
    pub(super) place: Endpoint,
}

impl Way {
    /// Makes a call, subject to the drawn faults.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let fate = self.set_out().await;
        if let Fate::Refused(fault) = fate {
            return Err(fault);
        }
        let answer = self.unless_dead(call).await;
        self.come_back().await;
        match fate {
            Fate::Lost => Err(self.lost()),
            _ => answer,
        }
    }

    pub(super) fn lost(&self) -> Fault {
        refusal(FaultClass::Timeout)
    }

    /// The request alone, for calls that only wait.
    pub(super) async fn passes(&self) -> Result<(), Fault> {
        match self.set_out().await {
            Fate::Done => Ok(()),
            Fate::Refused(fault) => Err(fault),
            Fate::Lost => Err(self.lost()),
        }
    }

    /// The request: it may take long, and the process may die.
    pub(super) async fn set_out(&self) -> Fate {
        self.step().await;
        let (fate, delay) = self.faults.fault_state().fate(self.place);
        self.wait(delay).await;
        fate
    }

    /// The answer: the call took effect, but the process does not know it yet.
    pub(super) async fn come_back(&self) {
        self.step().await;
        let delay = self.faults.fault_state().delay_after(self.place);
        self.wait(delay).await;
    }

    pub(super) async fn unless_dead<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.life.over() => std::future::pending().await,
            answer = call => answer,
        }
    }

    async fn wait(&self, time: Duration) {
        if time > Duration::ZERO {
            sleep(time).await;
        }
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }

    async fn step(&self) {
        let last = !self.faults.is_calm()
            && self.life.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                u64::MAX => None,
                left => Some(left.saturating_sub(1)),
            }) == Ok(1);
        if last {
            self.life.end();
        }
        if !self.faults.is_calm() && self.life.falls_asleep() {
            self.faults.fault_state().tally.pauses += 1;
        }
        self.life.awake().await;
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
