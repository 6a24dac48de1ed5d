//! The service: the log is opened and replayed, then the worker runs until it is told to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_model::{Target, Time};
use chunk_sync_wal::disk::RealDisk;
use chunk_sync_wal::{Recovery, WalError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::pipeline::breaker::Breaker;
use crate::pipeline::log::{Log, aside};
use crate::pipeline::recovery::{Recovered, recover};
use crate::pipeline::store_writer::{Condition, Lane};
use crate::pipeline::worker::Worker;
use crate::ports::{Bus, Fault, FaultClass, Fence, FinishedBy, Ports, Records, Store};
use crate::runtime::clock::Clock;
use crate::runtime::host::Surroundings;
use crate::runtime::maintenance::House;
use crate::runtime::progress::{Done, Progress, Stopper};
use crate::runtime::settings::Settings;

/// How often it is looked whether something has changed that nobody tells of.
const LOOK: Duration = Duration::from_millis(200);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error("the write-ahead log cannot be opened")]
    Log(#[from] WalError),
    /// What it has as pending could not be carried.
    #[error("what is pending in the write-ahead log cannot be carried")]
    Replay(#[source] Fault),
}

/// The running service. Dropping it stops it without draining; what was under way is in the log.
pub struct Service {
    bus: Arc<dyn Bus>,
    records: Arc<dyn Records>,
    lanes: Vec<Lane>,
    drivers: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
    breaker: Arc<Breaker>,
    clock: Clock,
    patience: Duration,
    recovered: Arc<Mutex<Option<Recovered>>>,
    ended: watch::Receiver<Option<Result<(), Fault>>>,
    stopper: Stopper,
    housekeeping: JoinHandle<()>,
}

/// A worker with its log open and its lanes started, before it does anything.
struct Made {
    worker: Worker,
    recovery: Recovery,
    drivers: Vec<JoinHandle<()>>,
    stopper: Stopper,
}

impl Made {
    async fn of(surroundings: Surroundings, ports: &Ports, settings: Settings) -> Result<Self, StartError> {
        let clock = surroundings.clock.clone();
        let (log, recovery) = Log::open(surroundings, &settings.wal).await?;
        let (stopper, stop) = Stopper::new();
        let lane = |store: &Arc<dyn Store>| {
            Lane::start(Arc::clone(store), Arc::clone(&ports.records), settings.worker.clone())
        };
        let (lanes, drivers): (Vec<Lane>, Vec<JoinHandle<()>>) = ports.stores.iter().map(lane).unzip();
        let worker = Worker {
            bus: Arc::clone(&ports.bus),
            records: Arc::clone(&ports.records),
            lanes,
            targets: ports.targets().into(),
            fence: Fence { stores: ports.set, ..Fence::default() },
            log,
            clock,
            settings: Arc::new(settings),
            progress: Arc::default(),
            breaker: Arc::default(),
            given_up: Arc::default(),
            stop,
        };
        Ok(Self { worker, recovery, drivers, stopper })
    }
}

/// How the service is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// What was replayed at the start; `None` until that is done.
    pub recovered: Option<Recovered>,
    /// Why the worker ended; `None` while it works.
    pub ended: Option<Result<(), Fault>>,
    /// Since when the system of record has been failing, and its last fault.
    pub records: Option<(Time, Fault)>,
    /// Since when nearly everything is refused and therefore held back, and why.
    pub held: Option<(Time, Fault)>,
    /// How each of the other stores is doing.
    pub stores: Vec<(Target, Condition)>,
    /// What has been done since the start.
    pub done: Done,
}

impl Health {
    /// Whether events are being carried: the log is replayed, the worker works, the system of record answers, and not
    /// nearly everything is refused.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.recovered.is_some() && self.ended.is_none() && self.records.is_none() && self.held.is_none()
    }
}

impl Service {
    /// Opens the log and sets out: first what is pending there, then whatever comes from the bus. The ports are prepared
    /// already.
    ///
    /// # Errors
    /// Where the log cannot be opened: another process has it, or the disk fails.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        Self::start_in(this_machine(&settings).await?, ports, settings).await
    }

    /// The same on another machine than this: the directory of the log is that disk.
    ///
    /// # Errors
    /// Where the log cannot be opened.
    pub async fn start_in(surroundings: Surroundings, ports: Ports, settings: Settings) -> Result<Self, StartError> {
        let Made { worker, recovery, drivers, stopper } = Made::of(surroundings, &ports, settings).await?;
        let Worker { lanes, log, clock, progress, breaker, stop, settings, .. } = worker.clone();
        let recovered = Arc::new(Mutex::new(None));
        let (end, ended) = watch::channel(None);
        let told = Arc::clone(&recovered);
        tokio::spawn(async move {
            let result = work(worker, recovery, &told).await;
            if let Err(fault) = &result {
                error!(%fault, "the worker had to stop; what was under way is in the log");
            }
            end.send_replace(Some(result));
        });
        let house = House {
            ports: ports.clone(),
            log,
            clock: clock.clone(),
            keep_conflicts: settings.keep_conflicts,
            limits: settings.limits.clone(),
            progress: Arc::clone(&progress),
        };
        let housekeeping = tokio::spawn(house.keep(stop));
        Ok(Self {
            bus: ports.bus,
            records: ports.records,
            lanes,
            drivers,
            progress,
            breaker,
            clock,
            patience: settings.worker.patience,
            recovered,
            ended,
            stopper,
            housekeeping,
        })
    }

    /// Carries what the last run left pending in the log, as every start does, and nothing else.
    ///
    /// # Errors
    /// Where the log cannot be opened, or nearly everything in it is refused.
    pub async fn replay(ports: Ports, settings: Settings) -> Result<Recovered, StartError> {
        let patience = settings.worker.patience;
        let Made { worker, recovery, drivers, stopper } =
            Made::of(this_machine(&settings).await?, &ports, settings).await?;
        let (log, breaker, clock) = (worker.log.clone(), Arc::clone(&worker.breaker), worker.clock.clone());
        let held = async {
            loop {
                match breaker.lasting(clock.now(), patience) {
                    Some(fault) => return fault,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let replayed = tokio::select! {
            replayed = recover(&worker, recovery) => replayed,
            // What is cut short is pending still.
            fault = held => Err(fault),
        };
        stopper.stop();
        drop(worker);
        for driver in drivers {
            // Whoever panicked said so; the others end by themselves.
            let _ = driver.await;
        }
        let recovered = replayed.map_err(StartError::Replay)?;
        log.sync().await.map_err(StartError::Replay)?;
        Ok(recovered)
    }

    /// How the service is doing right now.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            recovered: self.recovered.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ended: self.ended.borrow().clone(),
            records: self.progress.records(),
            held: self.breaker.held(),
            stores: self.lanes.iter().map(|lane| (lane.target(), lane.condition())).collect(),
            done: self.progress.done(),
        }
    }

    /// Waits until the bus is empty and everything read from it is settled. Where the merge finishes entries, also until
    /// every store that answers has what the outbox has for it.
    ///
    /// # Errors
    /// Where the worker ended before that, or the bus cannot say; and where nearly everything is refused for longer than
    /// the patience with a failing store, for that may last until a person acts.
    pub async fn until_idle(&self) -> Result<(), Fault> {
        loop {
            let changed = self.progress.changed.notified();
            if let Some(result) = self.health().ended {
                return result;
            }
            if let Some(fault) = self.breaker.lasting(self.clock.now(), self.patience) {
                return Err(fault);
            }
            let depth = self.bus.depth().await?;
            let recovered = self.health().recovered.is_some();
            let carried = recovered && depth.unread == 0 && depth.pending == 0 && self.progress.done().under_way == 0;
            if carried && self.is_drained().await? {
                return Ok(());
            }
            // The notification is the common case; the time covers what another process finishes.
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }

    /// Whether the outbox has nothing more for stores that answer. Where an acknowledgement finishes entries, the log has
    /// what is under way, and the outbox only what stores have missed for long.
    async fn is_drained(&self) -> Result<bool, Fault> {
        if self.bus.finished_by() == FinishedBy::Acknowledgement {
            return Ok(true);
        }
        let counts = self.records.debt_counts().await?;
        Ok(self.lanes.iter().all(|lane| {
            let condition = lane.condition();
            let failing = condition
                .failing
                .as_ref()
                .is_some_and(|(since, _)| self.clock.now().seconds_since(*since) > self.patience.as_secs_f64());
            let pending = counts.get(&lane.target()).copied().unwrap_or_default();
            condition.owing || failing || pending <= condition.refused
        }))
    }

    /// Waits until the worker ends; an error where it had to.
    pub async fn ended(&self) -> Result<(), Fault> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(Fault::new(FaultClass::Corrupt, "worker", "it vanished")),
        }
    }

    /// Reads nothing more, finishes what is under way, and ends: nothing beyond the seams is in use any more.
    ///
    /// # Errors
    /// What the worker met on the way.
    pub async fn stop(self) -> Result<(), Fault> {
        self.stopper.stop();
        let result = self.ended().await;
        drop(self.lanes);
        for task in self.drivers.into_iter().chain([self.housekeeping]) {
            // Whoever panicked said so; the others ended by themselves.
            let _ = task.await;
        }
        result
    }
}

/// This machine, with the directory of the log locked for this process.
async fn this_machine(settings: &Settings) -> Result<Surroundings, StartError> {
    let dir = settings.wal.dir.clone();
    let disk = aside(true, move || RealDisk::locked(&dir)).await?;
    Ok(Surroundings { disk: Arc::new(disk), clock: Clock::default() })
}

async fn work(worker: Worker, recovery: Recovery, told: &Mutex<Option<Recovered>>) -> Result<(), Fault> {
    let recovered = recover(&worker, recovery).await?;
    if recovered != Recovered::default() {
        info!(
            replayed = recovered.replayed,
            damaged = recovered.damaged,
            torn = recovered.torn,
            "recovered from the log"
        );
    }
    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovered);
    let log = worker.log.clone();
    worker.run().await?;
    log.sync().await
}
