//! The life of a process: its calls, its pauses, its death.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chunk_sync_wal::testing::CrashDisk;
use tokio::sync::Notify;
use tokio::time::Instant;

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
    pub(super) calls_left: AtomicU64,
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
    pub(super) fn falls_asleep(&self) -> bool {
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
