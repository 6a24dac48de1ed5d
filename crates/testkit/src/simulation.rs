//! The real engine and the real log on a simulated machine: the disk crashes, ports fail, hours pass in milliseconds.
//!
//! [`run`] simulates one seed: systems publish changes, calls fail, and one or more processes are killed repeatedly.
//! Then the faults end, and every store must hold what the [oracle] expects.
//!
//! # What each crash would lose or repeat
//! | crash | would be lost or repeated | why it is not |
//! |---|---|---|
//! | in `Bus::publish`, or before its answer | the event; or it is published twice | its publisher got no answer and publishes again; the second event merges to nothing |
//! | between `Bus::read` and `Wal::append` | the entries that were handed out | they are not acknowledged, so the bus hands them out again |
//! | in `Wal::append`, before its sync | a torn line | nothing was acknowledged: the start cuts the line off, and the bus hands the entry out again |
//! | after that sync, before `Records::merge` | nothing, even if the bus loses the entry now | the operation is pending in the log and is replayed before any new entry is read |
//! | in `Records::merge`, or before its answer | the whole merge; or it is repeated | it is one transaction; a repetition finds its event in the record and is written to the stores all the same |
//! | between merge and `Projection::apply` | the write to that store | it is replayed: the current state is written |
//! | in `Projection::apply`, or before its answer | part of a batch; or it is repeated | each write is guarded by its version |
//! | before or after `Records` adds writes to the outbox | the outbox entry | the batch is not settled before its outbox entries are recorded, and is replayed |
//! | between `Projection::apply` and `Outbox::drained` | nothing; the outbox entry is written twice | it is guarded by its version |
//! | while no process runs, a bit of the log flips | the operation of that line | the line is set aside and the others are replayed; the bus hands the entry out again (an operation that only the log has is spared) |
//! | before `Wal::complete`, or before its sync | the completion | one more replay, which is harmless |
//! | before `Bus::acknowledge`, or before its answer | the acknowledgement | the bus hands the entry out once more |
//! | between a captured row and the confirmation of its position | the captured event; or it is published twice | it is captured again from the last confirmed position; a row in its last known state is not a change |
//! | while the saved capture position is lost | what was written meanwhile | the position that may be confirmed was noted: a log that is ahead of it reports a gap, and rows are compared with their last known state |
//! | before `Capture::close_gap` | nothing | the next opening reports the gap again, and its rows are compared again |
//! | between `Lease::take` and its answer | nothing: no process works on the stream for 2 s | the lease is not renewed, and a process takes it |
//! | while the process holds the lease | the work in progress | it is pending on the bus and in the log of the process |
//! | the process stands still (no crash), and another takes the lease | a merge of the old holder; or it is repeated | its token is refused; the takeover waits for merges that had begun before |
//! | after a write was sent to a store, before its answer | nothing; the write may arrive minutes later, when the chunk is deleted there | its chunk is on the watch list and is read back |
//! | while `Bus` writes a dead letter | nothing; the letter may be there twice | letter and acknowledgement are written together |
//!
//!
//! If the merge finishes the entries of the bus ([`FinishedBy::Merge`]), there is no log between bus and merge:
//!
//! | crash | would be lost or repeated | why it is not |
//! |---|---|---|
//! | between `Bus::read` and `MergeTransaction::commit` | the entries that were handed out | they are on the bus, which hands them out again |
//! | in `MergeTransaction::commit`, or before its answer | the whole merge with its entries; or it is repeated | rows, outbox and entries are in one transaction; a repetition merges to nothing and finishes entries that are gone |
//! | between merge and `Projection::apply` | the write to that store | the merge has put it into the outbox |
//! | between `Projection::apply` and `Outbox::drained` | nothing; the write is applied twice | it is guarded by its version |
//! | while `Bus` writes a dead letter for what a store refused | the letter; or both letter and outbox entry exist | the outbox entry is removed only after the letter is written |
//! | between a captured row and the confirmation of its position | the captured event is published twice | the position is confirmed once its entry is committed beside the rows |
//! | of a publisher between the numbers of its entries and their commit | nothing: it got no answer | no reader waits for missing numbers; they are read when they are committed |
//!
//! # What is not simulated
//! Sectors that reach the disk out of order; foreign writes into Qdrant and Neo4j.

mod capture;
mod disk;
mod faults;
mod oracle;
mod ports;
mod process;
mod scenario;
mod tally;
mod trigger;
mod waiting;
mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chunk_sync_engine::ports::{
    Bus, Capture, DeadLetters as _, FinishedBy, Lease, Letter, Projection, Records, Row, WaitingEvents, Write,
};
use chunk_sync_model::{Target, Time};
use chunk_sync_samples::rng::Rng;
use chunk_sync_wal::disk::Disk;
use chunk_sync_wal::testing::CrashDisk;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::memory::{MemoryBus, MemoryCapture, MemoryLease, MemoryRecords, MemoryStore};
use capture::write_rows;
use faults::{Endpoint, Faults, Life, Signal, Way};
use oracle::Oracle;
use ports::Poisoned;
use process::{Machine, weathered_bus};
use scenario::Scenario;
pub use tally::Tally;
use writers::{Author, MALFORMED, WRITERS, chunk_id, malformed};

/// Distinguishes the drawing of flipped bits.
const FLIPS: u64 = 0xf119;

/// Without faults everything is settled within this time.
const SOON: Duration = Duration::from_secs(600);

/// Whatever the faults, publishers finish within this time.
const LATE: Duration = Duration::from_secs(24 * 3600);

/// The ports and the disk of a run: the correct ones, or ones with a flaw that the run must detect.
#[allow(clippy::type_complexity, reason = "functions from a port to a port")]
pub struct Plant {
    /// The disk of the log.
    pub disk: Box<dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk> + Send + Sync>,
    /// The bus.
    pub bus: Box<dyn Fn(Arc<dyn Bus>) -> Arc<dyn Bus> + Send + Sync>,
    /// The log of the system of record.
    pub capture: Box<dyn Fn(Arc<dyn Capture>) -> Arc<dyn Capture> + Send + Sync>,
    /// The system of record.
    pub records: Box<dyn Fn(Arc<dyn Records>) -> Arc<dyn Records> + Send + Sync>,
    /// The waiting events beside the rows.
    pub waiting: Box<dyn Fn(Arc<dyn WaitingEvents>) -> Arc<dyn WaitingEvents> + Send + Sync>,
    /// The lease.
    pub lease: Box<dyn Fn(MemoryLease) -> Arc<dyn Lease> + Send + Sync>,
    /// Each of the other stores.
    pub store: Box<dyn Fn(Arc<dyn Projection>) -> Arc<dyn Projection> + Send + Sync>,
    /// The stores of the installation beside the rows.
    pub stores: Vec<Target>,
    /// Whether a trigger of the table alters the rows.
    pub triggers: bool,
}

impl Default for Plant {
    fn default() -> Self {
        Self {
            disk: Box::new(|disk| disk),
            bus: Box::new(|bus| bus),
            capture: Box::new(|capture| capture),
            records: Box::new(|records| records),
            waiting: Box::new(|waiting| waiting),
            lease: Box::new(|lease| Arc::new(lease)),
            store: Box::new(|store| store),
            stores: vec![Target::Qdrant, Target::Neo4j],
            triggers: false,
        }
    }
}

/// How a simulated installation is set up, whatever the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Number of concurrent processes.
    pub processes: usize,
    /// What finishes the entries of the bus.
    pub finished_by: FinishedBy,
}

impl Installation {
    /// One process whose entries are finished by `finished_by`.
    #[must_use]
    pub fn single(finished_by: FinishedBy) -> Self {
        Self { processes: 1, finished_by }
    }
}

/// Simulates one seed. The same seed gives the same tally.
///
/// # Errors
/// States what was lost, repeated, went back to an older version or did not settle.
pub fn run(seed: u64, installation: Installation, plant: Plant) -> Result<Tally, String> {
    // The engine draws its jitter from this thread-local generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(live(seed, installation, plant))
}

/// All state of a run.
struct World {
    scenario: Scenario,
    plant: Plant,
    faults: Arc<Faults>,
    oracle: Arc<Oracle>,
    bus: MemoryBus,
    capture: MemoryCapture,
    /// The rows as a foreign writer to the table sees them.
    rows: MemoryRecords,
    records: Arc<dyn Records>,
    stores: Vec<Arc<dyn Projection>>,
    crashes: AtomicU32,
    /// Given once only the shutdown of the processes is left.
    closing: Signal,
    zero: Instant,
}

async fn live(seed: u64, installation: Installation, plant: Plant) -> Result<Tally, String> {
    let mut rng = Rng::new(seed);
    let processes = installation.processes;
    let world = {
        let scenario = Scenario::draw(&mut rng, installation).within(&plant.stores).triggering(plant.triggers);
        Arc::new(World::new(scenario, plant, &mut rng))
    };
    let mut branch = || Rng::new(rng.next_u64());
    if let Some(down) = world.scenario.down {
        world.faults.cut_off(Endpoint::Store(down), LATE * 2);
    }
    let mut machines = Vec::new();
    for _ in 0..processes {
        let (world, bus, capture) = (Arc::clone(&world), world.bus.another(), world.capture.another());
        let flips = Rng::new(seed ^ FLIPS);
        let machine = Machine { world, rng: branch(), disk: CrashDisk::default(), bus, capture, flips, flipped: 0 };
        machines.push(tokio::spawn(machine.run()));
    }
    world.publish(&mut branch).await?;
    world.faults.clear();
    // Calls that were drawn before are still delayed for some seconds.
    sleep(Duration::from_secs(15)).await;
    while world.faults.fault_state().on_the_way > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    world.settle_without(world.scenario.down).await?;
    world.faults.rejoin();
    world.settle_without(None).await?;
    world.closing.give();
    for machine in machines {
        match timeout(SOON, machine).await {
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(_) => return Err("a process does not come to rest".into()),
        }
    }
    world.drain_late_writes().await?;
    // The final version of a chunk depends on the order of its merges; late commits change that order.
    let exactly = processes == 1 && !world.scenario.commits_late && !world.scenario.triggers;
    world.check(None, exactly).await?;
    Ok(world.tallied())
}

impl World {
    fn new(scenario: Scenario, plant: Plant, rng: &mut Rng) -> Self {
        let limits = &scenario.settings.limits;
        let faults = Arc::new(Faults::new(Rng::new(rng.next_u64()), scenario.rates.clone()));
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
        let store = |target| (plant.store)(Arc::new(MemoryStore::new(target, limits.clone())));
        Self {
            faults,
            oracle: Arc::new(Oracle::new(scenario.triggers)),
            bus,
            capture: MemoryCapture::default(),
            records: (plant.records)(Arc::new(rows.clone())),
            rows,
            stores: plant.stores.iter().map(|target| store(*target)).collect(),
            crashes: AtomicU32::new(scenario.crashes),
            closing: Signal::default(),
            zero,
            scenario,
            plant,
        }
    }

    /// Publishes all events of the run.
    async fn publish(self: &Arc<Self>, branch: &mut impl FnMut() -> Rng) -> Result<(), String> {
        let publisher = || {
            let way = Way { faults: Arc::clone(&self.faults), life: Life::new(None, None), place: Endpoint::Bus };
            weathered_bus(self, &self.bus, way)
        };
        let authors = WRITERS.map(|name| {
            let author = Author::new(name, branch());
            tokio::spawn(author.write(Arc::clone(self), publisher()))
        });
        let stranger = tokio::spawn(write_rows(Arc::clone(self), branch()));
        let mut rng = branch();
        for number in 0..self.scenario.malformed {
            sleep(Duration::from_millis(rng.below(20_000) as u64)).await;
            let (event_id, fields) =
                malformed(number * MALFORMED + rng.below(MALFORMED), &self.scenario.settings.limits);
            self.oracle.known().bad.insert(event_id);
            self.bus.add(fields);
            if rng.one_in(2) {
                self.forget();
            }
        }
        for author in authors.into_iter().chain([stranger]) {
            match timeout(LATE, author).await {
                Ok(ended) => ended.map_err(|error| error.to_string())?,
                Err(_) => return Err("a publisher does not come to an end".into()),
            }
        }
        Ok(())
    }

    /// Waits until nothing is in progress, except to a store that is down, and the other stores hold what they must.
    /// Work that the bus has lost is not visible on it, so the stores are compared repeatedly until they agree.
    async fn settle_without(&self, down: Option<Target>) -> Result<(), String> {
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
    async fn drain_late_writes(&self) -> Result<(), String> {
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

    async fn is_settled(&self, down: Option<Target>) -> bool {
        let depth = self.bus.depth().await.unwrap();
        if depth.unread + depth.pending > 0 || !self.capture.is_confirmed() {
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

    async fn check(&self, down: Option<Target>, exactly: bool) -> Result<(), String> {
        self.oracle.verdict()?;
        self.oracle.check_records(&*self.records, exactly).await?;
        self.oracle.check_versions(&*self.records, self.now()).await?;
        for store in self.stores.iter().filter(|store| Some(store.target()) != down) {
            let poison = self.poison(store.target()).map(|poison| poison.id);
            self.oracle.check_store(&**store, &*self.records, poison).await?;
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

    fn now(&self) -> Time {
        let begin = self.scenario.begin.as_microsecond();
        Time::from_micros(begin + (Instant::now() - self.zero).as_micros() as i64)
    }

    /// The chunk that a store refuses.
    fn poison(&self, target: Target) -> Option<Poisoned> {
        let poison = self.scenario.poison.filter(|poison| poison.target == target)?;
        Some(Poisoned { id: chunk_id(0), kills: poison.kills })
    }

    /// Whether a process may die once more.
    fn take_crash(&self) -> bool {
        self.crashes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// The bus loses entries that are in the log, as a server without sync may, and captured entries. Dead letters must
    /// stay.
    fn forget(&self) {
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

    fn tally(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.faults.fault_state().tally);
    }

    fn tallied(&self) -> Tally {
        let (events, published_again) = self.oracle.counts();
        let seconds = (Instant::now() - self.zero).as_secs();
        Tally { events, published_again, seconds, ..self.faults.fault_state().tally }
    }
}
