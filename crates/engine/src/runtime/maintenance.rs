//! Maintenance beside the worker: it updates the gauges and removes what is finished.

use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::{Limits, Time};
use chunk_sync_wal::disk::Disk;
use tracing::warn;

use crate::operator::{conflicts, dead_letters, spill};
use crate::pipeline::log::{Log, run_blocking};
use crate::pipeline::waiting_room::WaitingRoom;
use crate::ports::{EntryId, Fault, Fence, Ports};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;
use crate::runtime::progress::{Progress, Stop};
use crate::runtime::settings::Settings;
use crate::runtime::sweep::Sweep;

/// Closed conflicts removed per call, and calls per round: a backlog is removed without blocking the merges.
const FORGOTTEN: usize = 500;
const GOES: usize = 20;

/// The most bytes of conflicts on record; above it the oldest closed ones are removed before their time, this many at
/// once.
const CONFLICT_BYTES: u64 = 1 << 30;
const CUT: usize = 1_000;

/// Chunks erased from the log at once.
const ERASED: usize = 1_000;

/// The maintenance of one term.
pub(crate) struct Maintenance {
    pub(crate) ports: Ports,
    pub(crate) log: Log,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Clock,
    /// How long a conflict stays on record once it is closed.
    pub(crate) keep_conflicts: Duration,
    pub(crate) limits: Limits,
    pub(crate) settings: Arc<Settings>,
    /// The condition under which the system of record lets this term expire records.
    pub(crate) fence: Fence,
    pub(crate) progress: Arc<Progress>,
    pub(crate) room: Arc<WaitingRoom>,
}

impl Maintenance {
    /// Every second it updates the gauges; every ten seconds it removes what is finished. Ends at the stop signal.
    pub(crate) async fn keep(self, stop: Stop) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut dead, mut sweep, targets) = (None, Sweep::default(), self.ports.targets());
        for tick in 0_u64.. {
            tokio::select! {
                biased;
                () = stop.requested() => return,
                _ = ticks.tick() => {}
            }
            self.progress.show_lag(&targets);
            for shown in [self.measure_waiting().await, self.show_gauges().await] {
                if let Err(fault) = shown {
                    warn!(%fault, "could not update the gauges; retrying in 1 s");
                }
            }
            if tick % 5 == 0
                && let Err(fault) = self.erase_requested().await
            {
                warn!(%fault, "could not erase deleted chunks from the log; retrying in 5 s");
            }
            if tick % 10 == 5
                && let Err(fault) =
                    sweep.step(&*self.ports.records, &self.fence, &self.settings, self.clock.now()).await
            {
                warn!(%fault, "could not expire idle records; retrying in 10 s");
            }
            if tick % 10 == 0 {
                self.tidy(&mut dead).await;
            }
            if tick % 60 == 0
                && let Err(fault) = conflicts::cut(&*self.ports.records, CONFLICT_BYTES, CUT).await
            {
                warn!(%fault, "could not bound the record of conflicts; retrying in 60 s");
            }
        }
    }

    /// Erases from the log, and from the dead letters beside it, the chunks for which the operator has requested it.
    async fn erase_requested(&self) -> Result<(), Fault> {
        let requested = self.ports.records.requested_erasures(ERASED).await?;
        if requested.is_empty() {
            return Ok(());
        }
        let (disk, ids) = (Arc::clone(&self.disk), requested.clone());
        run_blocking(disk.blocks(), move || spill::erase(&*disk, &ids)).await?;
        if self.log.erase(requested.clone()).await? {
            self.ports.records.withdraw_erasure(&requested).await?;
        }
        Ok(())
    }

    async fn show_gauges(&self) -> Result<(), Fault> {
        let depth = self.ports.bus.depth().await?;
        metrics::queue(depth.unread + depth.pending, depth.dead);
        let counts = self.ports.records.outbox_counts().await?;
        for store in &self.ports.stores {
            metrics::pending_writes(store.target(), counts.get(&store.target()).copied().unwrap_or_default());
        }
        metrics::open_conflicts(self.ports.records.open_conflicts().await?);
        Ok(())
    }

    async fn measure_waiting(&self) -> Result<(), Fault> {
        metrics::waiting(&self.room.amount.measure(&*self.ports.waiting).await?, self.clock.now());
        Ok(())
    }

    /// Each call examines one page of dead letters, the one after `dead`. What the bus cannot do now keeps neither the log
    /// nor the conflicts from being removed.
    async fn tidy(&self, dead: &mut Option<EntryId>) {
        for (what, done) in [
            ("files of the log", self.log.retire().await),
            ("conflicts", self.forget_conflicts().await),
            ("entries of the bus", self.tidy_bus(dead).await),
        ] {
            if let Err(fault) = done {
                warn!(%fault, what, "could not remove what is finished; retrying in 10 s");
            }
        }
    }

    async fn tidy_bus(&self, dead: &mut Option<EntryId>) -> Result<(), Fault> {
        self.ports.bus.trim().await?;
        self.progress.note_bus(&self.ports.bus.condition().await?);
        spill::spill(&*self.ports.bus, &self.disk, spill::MOST, self.clock.timestamp()).await?;
        *dead = dead_letters::tidy(&*self.ports.bus, &*self.ports.records, &self.limits, dead.take()).await?;
        Ok(())
    }

    async fn forget_conflicts(&self) -> Result<(), Fault> {
        let keep = i64::try_from(self.keep_conflicts.as_micros()).unwrap_or(i64::MAX);
        let before = Time::from_micros(self.clock.now().micros().saturating_sub(keep));
        for _ in 0..GOES {
            if self.ports.records.forget_conflicts(before, FORGOTTEN).await? < FORGOTTEN as u64 {
                break;
            }
        }
        Ok(())
    }
}
