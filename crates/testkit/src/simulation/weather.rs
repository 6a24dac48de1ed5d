//! What can go wrong between a process and what it talks to, drawn call by call; and the death of a process.

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

/// Something that is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Bus,
    Lease,
    Store(Target),
}

/// How bad it may get, each in calls of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Climate {
    /// The call fails, and nothing was done.
    pub(super) refusals: usize,
    /// It was done, and the answer says that it failed.
    pub(super) lost: usize,
    /// It takes long, before or after it is done.
    pub(super) delays: usize,
    /// From now on nobody gets there for a while.
    pub(super) partitions: usize,
}

/// The weather over all places.
pub(super) struct Weather(Mutex<Sky>);

pub(super) struct Sky {
    pub(super) rng: Rng,
    pub(super) tally: Tally,
    climate: BTreeMap<Place, Climate>,
    /// Nobody gets there before.
    cut_off: BTreeMap<Place, Instant>,
    calm: bool,
}

/// What becomes of a call.
pub(super) enum Fate {
    Done,
    Refused(Fault),
    /// Done, but the caller is told otherwise.
    Lost,
}

impl Weather {
    pub(super) fn new(rng: Rng, climate: BTreeMap<Place, Climate>) -> Self {
        let (tally, cut_off, calm) = (Tally::default(), BTreeMap::new(), false);
        Self(Mutex::new(Sky { rng, tally, climate, cut_off, calm }))
    }

    pub(super) fn sky(&self) -> MutexGuard<'_, Sky> {
        self.0.lock().unwrap()
    }

    /// Nobody gets there for so long.
    pub(super) fn cut_off(&self, place: Place, time: Duration) {
        self.sky().cut_off.insert(place, Instant::now() + time);
    }

    /// How long a merge takes.
    pub(super) fn merge_takes(&self) -> Duration {
        let mut sky = self.sky();
        match !sky.calm && sky.rng.one_in(20) {
            true => Duration::from_millis(sky.rng.below(6_000) as u64),
            false => Duration::ZERO,
        }
    }

    /// How long a process stands still in the midst of a merge, which goes on at the server.
    pub(super) fn sleeps_over_merge(&self) -> Option<Duration> {
        let mut sky = self.sky();
        let sleeps = !sky.calm && sky.rng.one_in(40);
        sky.tally.pauses += u64::from(sleeps);
        sleeps.then(|| Duration::from_millis(sky.rng.below(8_000) as u64))
    }

    /// From now on nothing goes wrong any more, save at places that are cut off.
    pub(super) fn clear(&self) {
        let mut sky = self.sky();
        sky.calm = true;
        sky.climate.clear();
    }

    pub(super) fn is_calm(&self) -> bool {
        self.sky().calm
    }

    /// Nobody is cut off any more, either.
    pub(super) fn rejoin(&self) {
        self.sky().cut_off.clear();
    }
}

impl Sky {
    pub(super) fn is_calm(&self) -> bool {
        self.calm
    }

    fn chance(&mut self, thousandths: usize) -> bool {
        thousandths > 0 && self.rng.below(1000) < thousandths
    }

    fn fate(&mut self, place: Place) -> (Fate, Duration) {
        let climate = self.climate.get(&place).copied().unwrap_or_default();
        if self.chance(climate.partitions) {
            let until = Instant::now() + Duration::from_millis(self.rng.below(60_000) as u64);
            let cut_off = self.cut_off.entry(place).or_insert(until);
            *cut_off = until.max(*cut_off);
            self.tally.partitions += 1;
        }
        if self.cut_off.get(&place).is_some_and(|until| *until > Instant::now()) {
            self.tally.refused += 1;
            // Refused at once, or no answer until somebody gives up.
            let wait = if self.rng.one_in(2) { 0 } else { self.rng.below(5_000) as u64 };
            return (Fate::Refused(refusal(FaultClass::Unavailable)), Duration::from_millis(wait));
        }
        let delay = self.delay(climate);
        if self.chance(climate.refusals) {
            self.tally.refused += 1;
            let classes = [FaultClass::Unavailable, FaultClass::Timeout, FaultClass::Busy, FaultClass::Denied];
            let class = classes[self.rng.below(classes.len())];
            return (Fate::Refused(refusal(class)), delay);
        }
        if self.chance(climate.lost) {
            self.tally.lost += 1;
            return (Fate::Lost, delay);
        }
        (Fate::Done, delay)
    }

    fn delay(&mut self, climate: Climate) -> Duration {
        if !self.chance(climate.delays) {
            return Duration::ZERO;
        }
        let longest = [2, 50, 1_000, 10_000][self.rng.below(4)];
        Duration::from_millis(1 + self.rng.below(longest) as u64)
    }

    fn delay_after(&mut self, place: Place) -> Duration {
        let climate = self.climate.get(&place).copied().unwrap_or_default();
        self.delay(climate)
    }
}

fn refusal(class: FaultClass) -> Fault {
    Fault::new(class, "simulation", "bad weather")
}

/// Given once, for ever. Whoever waits is woken in the order of waiting, the same in every run.
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

/// A process, from its start to its death. Whatever it still tries after that never comes to an end.
pub(super) struct Life {
    dead: Signal,
    /// Beginnings and ends of calls until it dies.
    calls_left: AtomicU64,
    /// It stands still, after so many beginnings and ends of calls, for so long.
    pause: Mutex<Option<(u64, Duration)>>,
    /// It stands still until then.
    still_until: Mutex<Option<Instant>>,
    disk: Option<CrashDisk>,
}

impl Life {
    /// A process with that disk, which dies in the midst of the given call.
    pub(super) fn new(disk: Option<CrashDisk>, calls_left: Option<u64>) -> Arc<Self> {
        let calls_left = AtomicU64::new(calls_left.unwrap_or(u64::MAX));
        let (pause, still_until) = (Mutex::default(), Mutex::default());
        Arc::new(Self { dead: Signal::default(), calls_left, pause, still_until, disk })
    }

    /// It is to stand still in the midst of the given call.
    pub(super) fn pause_at(&self, calls: u64, time: Duration) {
        *self.pause.lock().unwrap() = Some((calls, time));
    }

    /// It stands still from now on, for so long.
    pub(super) fn fall_asleep(&self, time: Duration) {
        *self.still_until.lock().unwrap() = Some(Instant::now() + time);
    }

    /// Waits as long as it stands still.
    pub(super) async fn awake(&self) {
        loop {
            let until = *self.still_until.lock().unwrap();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Counts a call; whether it begins to stand still.
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

    /// It dies now.
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

/// The way from a process to a place.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) weather: Arc<Weather>,
    pub(super) life: Arc<Life>,
    pub(super) place: Place,
}

impl Way {
    /// Makes a call as the weather wants it.
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

    /// The way there alone, for what is only waited for.
    pub(super) async fn passes(&self) -> Result<(), Fault> {
        match self.set_out().await {
            Fate::Done => Ok(()),
            Fate::Refused(fault) => Err(fault),
            Fate::Lost => Err(self.lost()),
        }
    }

    /// On the way there: it may take long, the process may die.
    pub(super) async fn set_out(&self) -> Fate {
        self.step().await;
        let (fate, delay) = self.weather.sky().fate(self.place);
        self.wait(delay).await;
        fate
    }

    /// On the way back: it is done, but the process does not know yet.
    pub(super) async fn come_back(&self) {
        self.step().await;
        let delay = self.weather.sky().delay_after(self.place);
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
        let last = !self.weather.is_calm()
            && self.life.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                u64::MAX => None,
                left => Some(left.saturating_sub(1)),
            }) == Ok(1);
        if last {
            self.life.end();
        }
        if !self.weather.is_calm() && self.life.falls_asleep() {
            self.weather.sky().tally.pauses += 1;
        }
        self.life.awake().await;
        if self.life.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
