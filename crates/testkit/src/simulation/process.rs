//! A machine that runs the service: it dies, stops, loses its disk's cache, and restarts, until the run closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_sync_engine::Service;
use chunk_sync_samples::rng::Rng;
use chunk_sync_wal::testing::CrashDisk;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::helpers::Helpers;
use super::life::Life;
use super::trace;
use super::world::World;
use crate::memory::{MemoryBus, MemoryCapture};

/// How often a service may end by itself after the faults have stopped: faults that are already drawn may still occur.
const ENDS: u32 = 3;

pub(super) struct Machine {
    pub(super) world: Arc<World>,
    pub(super) rng: Rng,
    pub(super) disk: CrashDisk,
    pub(super) bus: MemoryBus,
    pub(super) capture: MemoryCapture,
    /// Draws the bits of the log that flip, apart from everything else that is drawn.
    pub(super) flips: Rng,
    /// Bits of the log that were flipped.
    pub(super) flipped: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Killed,
    /// The service gave up, as it does when its disk fails.
    GaveUp,
    Stopped,
    /// No work was left.
    Done,
}

/// The fault that is drawn for a process.
enum Doom {
    None,
    /// Dies at the beginning or end of this many calls.
    Calls(u64),
    /// Dies after this many units of work of its disk, see [`CrashDisk::power_off_after`].
    Power(u64),
    /// The disk is full after this time.
    Full(Duration),
    /// A sync fails after this time.
    Sync(Duration),
    /// It is stopped in order after this time.
    Stop(Duration),
    /// Stands still at the beginning or end of this many calls, for this time.
    Pause(u64, Duration),
}

impl Machine {
    /// Runs one process after the other.
    pub(super) async fn run(mut self) {
        let mut ends = 0;
        loop {
            let doom = self.doom();
            trace::process("a process starts");
            let end = self.live(doom).await;
            trace::process(&format!("it ended: {end:?}"));
            match end {
                End::Done => return,
                End::Killed => self.world.tally(|tally| tally.crashes += 1),
                End::Stopped => self.world.tally(|tally| tally.stops += 1),
                End::GaveUp => self.world.tally(|tally| {
                    tally.crashes += 1;
                    tally.disk_failures += 1;
                }),
            }
            if self.world.faults.is_calm() {
                ends += 1;
            }
            if ends > ENDS {
                self.world.oracle.broke("the service keeps ending without faults".into());
                return;
            }
            self.bus.end();
            self.bus = self.bus.another();
            self.capture.end();
            self.capture = self.capture.another();
            // Not every death of a process loses the disk's cache. After a restore, an operation whose completion is lost
            // would be carried again, into rows that have lost it.
            let all = self.world.is_restored.load(Ordering::Relaxed) || self.rng.one_in(2);
            let rng = &mut self.rng;
            self.disk = self.disk.crash(&mut |most| if all { most } else { rng.below(most + 1) });
            self.flip();
            self.world.forget();
            sleep(Duration::from_millis(self.rng.below(30_000) as u64)).await;
        }
    }

    /// Now and then some bits of a line of the log flip while no process runs. What only the log has is spared: its loss
    /// would be real. An operation that is still on the bus is not; the bus keeps it from then on.
    fn flip(&mut self) {
        let world = Arc::clone(&self.world);
        if world.faults.is_calm() || world.is_restored.load(Ordering::Relaxed) || !self.flips.one_in(4) {
            return;
        }
        let bus = self.bus.clone();
        let may = |line: &[u8]| {
            let line: Value = serde_json::from_slice(line).unwrap_or_default();
            let Some(id) = line["operation"]["event_id"].as_str() else { return line["status"] != "pending" };
            let is_it = |(name, value): &(Vec<u8>, Vec<u8>)| name == b"event_id" && value == id.as_bytes();
            let (held, Ok(id)) = (bus.holds(|fields| fields.iter().any(is_it)), id.parse()) else { return false };
            // Else the replay of a later operation of its chunk would overtake it.
            let spared = !held || !world.oracle.known().is_alone(id);
            if !spared {
                world.oracle.known().logged.remove(&id);
            }
            !spared
        };
        let rng = &mut self.flips;
        let bits = self.disk.flip(&mut |most| rng.below(most + 1), &may);
        self.flipped += bits;
        self.world.tally(|tally| tally.flipped += bits);
    }

    fn doom(&mut self) -> Doom {
        if self.world.faults.is_calm() || !self.world.take_crash() {
            return Doom::None;
        }
        let span = 1 << self.rng.below(10);
        let soon = Duration::from_millis(self.rng.below(60_000) as u64);
        match self.rng.below(12) {
            8.. => {
                Doom::Pause(1 + self.rng.below(span) as u64, Duration::from_millis(500 + self.rng.below(10_000) as u64))
            }
            0..=3 => Doom::Calls(1 + self.rng.below(span) as u64),
            4 => Doom::Power(self.rng.below(span * 64) as u64),
            5 => Doom::Full(soon),
            6 => Doom::Sync(soon),
            _ => Doom::Stop(soon),
        }
    }

    async fn live(&mut self, doom: Doom) -> End {
        let calls = if let Doom::Calls(calls) = doom { Some(calls) } else { None };
        let life = Life::new(Some(self.disk.clone()), calls);
        match doom {
            Doom::Power(work) => self.disk.power_off_after(work),
            Doom::Pause(calls, time) => life.pause_at(calls, time),
            _ => {}
        }
        let skew = self.rng.below(60_000) as i64 - 30_000;
        // Now and then the clock is wrong by more than the bound, until it is set right.
        let wrong = self.rng.one_in(8).then(|| Wrong {
            by: [-1, 1][self.rng.below(2)] * (900_000 + self.rng.below(3_600_000) as i64),
            until: Instant::now() + Duration::from_millis(self.rng.below(120_000) as u64),
        });
        let ports = self.ports(&life, self.clock(skew, wrong, &life)).await;
        let started = Service::start_on(self.watched_disk(), ports.clone(), self.world.scenario.settings.clone());
        let end = match started.await {
            Ok(service) => {
                let helpers = Helpers::start(&self.world, &self.capture, &life, ports, service.leadership());
                self.watch(service, helpers, &life, doom).await
            }
            Err(_) => End::GaveUp,
        };
        life.end();
        end
    }

    /// Watches the process until it ends.
    async fn watch(&mut self, service: Service, helpers: Helpers, life: &Life, doom: Doom) -> End {
        let fate = async {
            match doom {
                Doom::Full(time) => {
                    sleep(time).await;
                    self.disk.fail_next_append_after(self.rng.below(600));
                }
                Doom::Sync(time) => {
                    sleep(time).await;
                    self.disk.fail_next_sync();
                }
                Doom::Stop(time) => return sleep(time).await,
                Doom::None | Doom::Calls(_) | Doom::Power(_) | Doom::Pause(..) => {}
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            biased;
            () = life.over() => End::Killed,
            _ = service.ended() => End::GaveUp,
            () = fate => End::Stopped,
            () = self.world.closing.given() => match service.until_idle().await {
                Ok(()) => End::Done,
                Err(_) => End::GaveUp,
            },
        };
        self.note(&service);
        if end == End::Killed || end == End::GaveUp {
            return end;
        }
        // After the stop signal it finishes work in progress, and may be killed while it does.
        tokio::select! {
            biased;
            () = life.over() => End::Killed,
            stopped = async { helpers.stop().await; service.stop().await } => if stopped.is_ok() { end } else { End::GaveUp },
        }
    }

    fn note(&self, service: &Service) {
        let health = service.health();
        let recovered = health.recovered.unwrap_or_default();
        self.world.tally(|tally| {
            tally.replayed += recovered.replayed;
            tally.torn += u64::from(recovered.torn);
        });
        self.world.tally(|tally| tally.damaged += recovered.damaged);
        // A flipped bit may make one line two.
        if recovered.damaged > 2 * self.flipped || recovered.unreadable > 0 {
            self.world.oracle.broke("a crash damaged lines that were good".into());
        }
    }
}

/// A clock that is set wrong, in milliseconds, and then right.
#[derive(Clone, Copy)]
pub(super) struct Wrong {
    pub(super) by: i64,
    pub(super) until: Instant,
}
