//! One term: what a process does from the moment it holds the lease until it is stopped, fails, or loses it.
//!
//! In order: the bus hands over, the log is replayed as far as the bus may have lost it, the worker runs. If the term
//! is lost, the future that does all this is dropped: tasks are aborted, store writers send nothing more, and the log
//! is closed, so that work of this term that is still queued for the disk cannot reach the log in the next term.

use std::sync::{Arc, Mutex, PoisonError};

use chunk_sync_wal::Recovery;
use chunk_sync_wal::disk::Disk;
use tokio::task::{JoinHandle, JoinSet};
use tracing::info;

use crate::pipeline::breakers::Breakers;
use crate::pipeline::clocks::Clocks;
use crate::pipeline::given_up::GivenUp;
use crate::pipeline::log::Log;
use crate::pipeline::recovery::{Recovered, recover};
use crate::pipeline::store_writer::{SharedCondition, StoreWriter};
use crate::pipeline::waiting_room::WaitingRoom;
use crate::pipeline::worker::{Run, Worker};
use crate::ports::Ports;
use crate::ports::{Fault, Fence, Handover};
use crate::runtime::maintenance::Maintenance;
use crate::runtime::progress::{Progress, Stop};
use crate::runtime::retry::retry;
use crate::runtime::settings::Settings;
use crate::runtime::term::Term;
use crate::runtime::watch::{WATCHED_FOR, Watch};

/// What all terms of a process have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) settings: Arc<Settings>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) breakers: Arc<Breakers>,
    /// The chunks that have waiting events.
    pub(crate) room: Arc<WaitingRoom>,
    pub(crate) given_up: Arc<GivenUp>,
    /// How each store is doing, in the order of the ports.
    pub(crate) conditions: Vec<SharedCondition>,
    /// What was replayed last; `None` before the first replay has ended.
    pub(crate) recovered: Arc<Mutex<Option<Recovered>>>,
    /// The tasks of store writers of lost terms: they may still wait for an answer of a store.
    pub(crate) left: Arc<Mutex<Vec<JoinHandle<()>>>>,
    pub(crate) stop: Stop,
}

impl Shared {
    /// Opens the log.
    pub(crate) async fn open_log(&self) -> Result<(Log, Recovery), chunk_sync_wal::WalError> {
        Log::open(Arc::clone(&self.disk), self.ports.clock.clone(), &self.settings.wal).await
    }

    /// Replays the log, then carries events until the worker ends.
    pub(crate) async fn work(
        &self,
        term: &Term,
        handover: Handover,
        log: Log,
        recovery: Recovery,
    ) -> Result<Run, Fault> {
        let Some(epoch) = self.take_over(handover).await? else { return Ok(Run::Stopped) };
        let records = &self.ports.records;
        // An earlier process may have sent the writes of the outbox.
        let list = || records.watch_outbox(WATCHED_FOR);
        if retry(&self.settings.worker, &self.stop, "list the chunks of the outbox", list).await?.is_none() {
            return Ok(Run::Stopped);
        }
        let worker = self.worker(term, log.clone(), &epoch);
        self.room.clear();
        if worker.load_waiting().await?.is_none() {
            return Ok(Run::Stopped);
        }
        let recovered = recover(&worker, recovery).await?;
        propagate(&recovered);
        *self.recovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovered);
        let mut maintenance = JoinSet::new();
        maintenance.spawn(self.maintenance(term, log.clone()).keep(self.stop.clone()));
        let held = worker.store_writers.iter().map(StoreWriter::held).collect();
        maintenance.spawn(Watch { ports: self.ports.clone(), term: term.clone(), held }.run());
        let run = worker.clone().run().await?;
        worker.ask_the_bus().await?;
        drop(worker);
        drop(maintenance);
        self.writers_ended().await;
        log.sync().await?;
        Ok(run)
    }

    /// Replays the log and does nothing else.
    pub(crate) async fn replay(&self, term: &Term, log: Log, recovery: Recovery) -> Result<Recovered, Fault> {
        let epoch = self.ports.bus.epoch().await?;
        let worker = self.worker(term, log.clone(), &epoch);
        self.room.clear();
        self.room.load(self.ports.waiting.waiting_chunks().await?.into_iter().map(|(chunk, _)| chunk));
        let recovered = recover(&worker, recovery).await?;
        drop(worker);
        self.writers_ended().await;
        log.sync().await?;
        Ok(recovered)
    }

    /// Asks the bus to hand over and retries until it answers; returns the epoch of the bus. `None` if the service was
    /// stopped first.
    async fn take_over(&self, handover: Handover) -> Result<Option<String>, Fault> {
        let begin = || async {
            self.ports.bus.begin(handover).await?;
            self.ports.bus.epoch().await
        };
        let begun = retry(&self.settings.worker, &self.stop, "hand over the bus", begin);
        Ok(self.stop.during(begun).await.transpose()?.flatten())
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            bus: Arc::clone(&self.ports.bus),
            clock: self.ports.clock.clone(),
            bound: self.settings.limits.max_ahead_micros,
            progress: Arc::clone(&self.progress),
            last: Arc::default(),
            stop: self.stop.clone(),
        }
    }

    fn worker(&self, term: &Term, log: Log, epoch: &str) -> Worker {
        Worker {
            bus: Arc::clone(&self.ports.bus),
            records: Arc::clone(&self.ports.records),
            waiting: Arc::clone(&self.ports.waiting),
            store_writers: self.store_writers(term),
            targets: self.ports.targets().into(),
            fence: Fence { stores: self.ports.set, ..term.fence() },
            floor: self.ports.floor,
            log,
            clock: self.ports.clock.clone(),
            settings: Arc::clone(&self.settings),
            progress: Arc::clone(&self.progress),
            breakers: Arc::clone(&self.breakers),
            room: Arc::clone(&self.room),
            given_up: Arc::clone(&self.given_up),
            carried: Arc::default(),
            turn: Arc::default(),
            clocks: self.clocks(),
            epoch: epoch.into(),
            term: term.clone(),
            stop: self.stop.clone(),
        }
    }

    /// A writer to every store. It ends when the last handle on it is dropped.
    fn store_writers(&self, term: &Term) -> Vec<StoreWriter> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|task| !task.is_finished());
        let start = |(store, condition): (&Arc<dyn crate::ports::Projection>, &SharedCondition)| {
            let (store, records) = (Arc::clone(store), Arc::clone(&self.ports.records));
            let settings = self.settings.worker.clone();
            let (store_writer, task) = StoreWriter::start(store, records, settings, term.clone(), condition.clone());
            left.push(task);
            store_writer
        };
        self.ports.stores.iter().zip(&self.conditions).map(start).collect()
    }

    /// Waits until no task of a store writer is left, of this term or an earlier one.
    pub(crate) async fn writers_ended(&self) {
        let tasks = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A panic was printed where it happened, and a task that ended has no result.
            let _ = task.await;
        }
    }

    /// Why nearly all chunks are refused, if that has lasted longer than the patience with a failing store.
    pub(crate) fn lasting_refusal(&self) -> Option<Fault> {
        let (now, patience) = (self.ports.clock.now(), self.settings.worker.patience);
        self.breakers.lasting(now, patience)
    }

    fn maintenance(&self, term: &Term, log: Log) -> Maintenance {
        Maintenance {
            ports: self.ports.clone(),
            log,
            disk: Arc::clone(&self.disk),
            clock: self.ports.clock.clone(),
            keep_conflicts: self.settings.keep_conflicts,
            limits: self.settings.limits.clone(),
            settings: Arc::clone(&self.settings),
            fence: Fence { stores: self.ports.set, ..term.fence() },
            progress: Arc::clone(&self.progress),
            room: Arc::clone(&self.room),
        }
    }
}

fn propagate(recovered: &Recovered) {
    if *recovered != Recovered::default() {
        info!(
            replayed = recovered.replayed,
            on_bus = recovered.on_bus,
            damaged = recovered.damaged,
            torn = recovered.torn,
            "recovered from the write-ahead log"
        );
    }
}
