//! What outlives every process of a run: servers, publishers, faults and the expectation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use chunk_sync_engine::Ports;
use chunk_sync_engine::ports::{Bus, DeadLetters as _, FinishedBy, Letter, Projection, Records, Row, Write};
use chunk_sync_model::{Target, Time};
use chunk_sync_samples::rng::Rng;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::faults::{Endpoint, Faults};
use super::life::{Life, Signal};
use super::oracle::Oracle;
use super::plant::{Plant, Trouble};
use super::ports::bus::FaultyBus;
use super::ports::store::Poisoned;
use super::scenario::Scenario;
use super::scenario::chunk_id;
use super::tally::Tally;
use super::trigger;
use super::way::Way;
use crate::memory::{MemoryBus, MemoryCapture, MemoryHeartbeats, MemoryRecords, MemoryStore, memory_ports};

/// Without faults everything is settled within this time.
pub(super) const SOON: Duration = Duration::from_secs(600);

/// All state of a run.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) plant: Plant,
    pub(super) faults: Arc<Faults>,
    pub(super) oracle: Arc<Oracle>,
    pub(super) bus: MemoryBus,
    pub(super) capture: MemoryCapture,
    /// The rows as a foreign writer to the table sees them.
    pub(super) rows: MemoryRecords,
    pub(super) records: Arc<dyn Records>,
    pub(super) stores: Vec<Arc<dyn Projection>>,
    /// The same stores without a flaw.
    pub(super) bare: Vec<MemoryStore>,
    /// Where the guard notes its last value.
    pub(super) heartbeats: MemoryHeartbeats,
    pub(super) crashes: AtomicU32,
    /// The system of record has gone back to a backup.
    pub(super) is_restored: AtomicBool,
    /// Given once only the shutdown of the processes is left.
    pub(super) closing: Signal,
    pub(super) zero: Instant,
}

impl World {
    pub(super) fn new(scenario: Scenario, plant: Plant, rng: &mut Rng) -> Self {
        let limits = &scenario.settings.limits;
        let faults = Arc::new(Faults::new(Rng::new(rng.next_u64()), scenario.rates.clone(), plant.slow_merges));
        let takes = Arc::clone(&faults);
        let bus = MemoryBus::of(scenario.bound, scenario.finished_by);
        let (begin, zero) = (scenario.begin.as_microsecond(), Instant::now());
        bus.set_clock(move || Time::from_micros(begin + (Instant::now() - zero).as_micros() as i64));
        let rows = match scenario.finished_by {
            FinishedBy::Acknowledgement => MemoryRecords::default(),
            FinishedBy::Merge => MemoryRecords::beside(&bus),
        };
        let rows = rows.taking(move || takes.merge_takes());
        let rows = if scenario.triggers { rows.triggering(Arc::new(trigger::stored)) } else { rows };
        let rows = (plant.rows)(rows);
        let bare: Vec<MemoryStore> =
            plant.stores.iter().map(|target| MemoryStore::new(*target, limits.clone())).collect();
        let restores = scenario.trouble == Some(Trouble::RestoredStore);
        if scenario.trouble.is_some() {
            rows.capture_everything();
        }
        Self {
            faults,
            oracle: Arc::new(Oracle::new(scenario.triggers, restores, scenario.poison.map(|_| chunk_id(0)))),
            bus,
            capture: MemoryCapture::default(),
            records: (plant.records)(Arc::new(rows.clone())),
            rows,
            stores: bare.iter().map(|store| (plant.store)(Arc::new(store.clone()))).collect(),
            bare,
            heartbeats: MemoryHeartbeats::default(),
            crashes: AtomicU32::new(scenario.crashes),
            is_restored: AtomicBool::new(false),
            closing: Signal::default(),
            zero,
            scenario,
            plant,
        }
    }

    /// Ends all faults, except at services that are cut off, and waits for what is on its way.
    pub(super) async fn become_calm(&self) {
        self.faults.clear();
        // Calls that were drawn before are still delayed for some seconds.
        sleep(Duration::from_secs(15)).await;
        while self.faults.fault_state().on_the_way > 0 {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The bus as a publishing system reaches it.
    pub(super) fn publisher(&self) -> Arc<dyn Bus> {
        let way = Way { faults: Arc::clone(&self.faults), life: Life::new(None, None), place: Endpoint::Bus };
        faulty_bus(self, &self.bus, way)
    }

    /// Waits until nothing is in progress, except to a store that is down, and the other stores hold what they must.
    /// Work that the bus has lost is not visible on it, so the stores are compared repeatedly until they agree.
    pub(super) async fn settle_without(&self, down: Option<Target>) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        loop {
            self.oracle.verdict()?;
            let held = match self.is_settled(down).await {
                true => self.check(down, false).await,
                false => Err("work is still in progress".into()),
            };
            match held {
                Err(what) if Instant::now() > deadline => {
                    let (depth, pending_writes) =
                        (self.bus.depth().await.unwrap(), self.records.outbox_counts().await.unwrap());
                    return Err(format!(
                        "it does not settle, {down:?} down: {what}; {depth:?}, outbox {pending_writes:?}"
                    ));
                }
                Err(_) => sleep(Duration::from_secs(2)).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Does what the next start does: a write of a lost term that was answered while the processes stopped may have put
    /// its chunk into the outbox.
    pub(super) async fn drain_late_writes(&self) -> Result<(), String> {
        for store in &self.stores {
            let poison = self.poison(store.target()).map(|poison| poison.id);
            let pending = self.records.pending_writes(store.target(), usize::MAX).await.map_err(|f| f.to_string())?;
            let ids: Vec<Uuid> = pending.iter().map(|pending| pending.id).filter(|id| Some(*id) != poison).collect();
            let rows = self.records.rows_of(&ids).await.map_err(|fault| fault.to_string())?;
            let write =
                |row: Row| Write { id: row.id, version: row.version, state: row.state, vectors_since: row.version };
            store.apply(&rows.into_iter().flatten().map(write).collect::<Vec<_>>()).await;
        }
        Ok(())
    }

    /// Whether nothing is on the bus or in the log of the system of record.
    pub(super) async fn is_idle(&self) -> bool {
        let depth = self.bus.depth().await.unwrap();
        depth.unread + depth.pending == 0 && self.capture.is_confirmed()
    }

    /// The ports without faults and flaws.
    pub(super) fn ports(&self) -> Ports {
        let stores = self.bare.iter().map(|store| Arc::new(store.clone()) as Arc<dyn Projection>).collect();
        memory_ports(&self.bus, &self.rows, stores)
    }

    async fn is_settled(&self, down: Option<Target>) -> bool {
        if !self.is_idle().await {
            return false;
        }
        for target in self.stores.iter().map(|store| store.target()).filter(|target| Some(*target) != down) {
            // A write that a store refuses stays in the outbox for ever, but blocks no other.
            let poison = self.poison(target).map(|poison| poison.id);
            let pending_writes = self.records.pending_writes(target, usize::MAX).await.unwrap();
            if pending_writes.iter().any(|pending_write| Some(pending_write.id) != poison) {
                return false;
            }
        }
        true
    }

    pub(super) async fn check(&self, down: Option<Target>, exactly: bool) -> Result<(), String> {
        self.oracle.verdict()?;
        self.oracle.check_records(&*self.records, exactly).await?;
        self.oracle.check_versions(&*self.records, self.now()).await?;
        for store in self.bare.iter().filter(|store| Some(store.target()) != down) {
            let poison = self.poison(store.target()).map(|poison| poison.id);
            self.oracle.check_store(store, &*self.records, poison).await?;
        }
        let letters = self.bus.dead(None, usize::MAX).await.unwrap();
        let field = |letter: &Letter, name: &[u8]| {
            let field = letter.fields.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let dead: BTreeMap<String, String> = letters
            .iter()
            .filter_map(|letter| Some((field(letter, b"event_id")?, field(letter, b"error").unwrap_or_default())))
            .collect();
        self.tally(|tally| tally.dead = dead.len() as u64);
        self.oracle.dead_lettered(&dead)
    }

    pub(super) fn now(&self) -> Time {
        let begin = self.scenario.begin.as_microsecond();
        Time::from_micros(begin + (Instant::now() - self.zero).as_micros() as i64)
    }

    /// The chunk that a store refuses.
    pub(super) fn poison(&self, target: Target) -> Option<Poisoned> {
        let poison = self.scenario.poison.filter(|poison| poison.target == target)?;
        Some(Poisoned { id: chunk_id(0), kills: poison.kills })
    }

    /// Whether a process may die once more.
    pub(super) fn take_crash(&self) -> bool {
        self.crashes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// The bus loses entries that are in the log, as a server without sync may, and captured entries. Dead letters must
    /// stay.
    pub(super) fn forget(&self) {
        if !self.scenario.forgetful || self.faults.is_calm() {
            return;
        }
        let known = self.oracle.known();
        let logged = |fields: &[(Vec<u8>, Vec<u8>)]| {
            let field = fields.iter().find(|(name, _)| name == b"event_id");
            let id = field.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<Uuid>().ok());
            // Captured entries are captured again.
            let captured = fields.iter().any(|(name, _)| name == b"position");
            captured || id.is_some_and(|id| known.logged.contains(&id) && !known.is_flawed(id))
        };
        let forgotten = self.bus.forget(logged);
        self.tally(|tally| tally.forgotten += forgotten);
    }

    pub(super) fn tally(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.faults.fault_state().tally);
    }

    pub(super) fn tallied(&self) -> Tally {
        let (events, published_again) = self.oracle.counts();
        let seconds = (Instant::now() - self.zero).as_secs();
        Tally { events, published_again, seconds, ..self.faults.fault_state().tally }
    }
}

pub(super) fn faulty_bus(world: &World, memory: &MemoryBus, way: Way) -> Arc<dyn Bus> {
    let bus = (world.plant.bus)(Arc::new(memory.clone()));
    let (oracle, commits_late) = (Arc::clone(&world.oracle), world.scenario.commits_late);
    Arc::new(FaultyBus { bus, memory: memory.clone(), way, oracle, commits_late })
}
