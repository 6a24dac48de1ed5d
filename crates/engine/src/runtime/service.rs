//! The service: it stands by until this process holds the lease, replays the log, and carries events until a stop is
//! requested. A process that loses the lease does not end: it drops what is under way and stands by again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_model::Target;
use chunk_sync_wal::disk::{Disk, RealDisk};
use chunk_sync_wal::{Recovery, WalError};
use tokio::sync::watch;
use tracing::error;

use super::health::Health;
use crate::pipeline::log::{Log, run_blocking};
use crate::pipeline::recovery::Recovered;
use crate::pipeline::store_writer::SharedCondition;
use crate::pipeline::waiting_room::WaitingRoom;
use crate::pipeline::worker::Run;
use crate::ports::{Fault, FaultClass, Handover, Ports};
use crate::runtime::active::Shared;
use crate::runtime::latency::Spread;
use crate::runtime::lease::{Keeper, Leadership, Role};
use crate::runtime::progress::{Progress, Stopper};
use crate::runtime::settings::Settings;

mod idle;

/// How often the service polls for changes that no notification reports.
const LOOK: Duration = Duration::from_millis(200);

/// How long a replay waits for the lease: longer than it takes to take over from a process that died.
const LEASE_WITHIN: Duration = Duration::from_secs(5);

/// Why the service did not start, or a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error("the write-ahead log cannot be opened")]
    Log(#[from] WalError),
    /// The operations that are pending in the log could not be carried.
    #[error("the pending operations of the write-ahead log cannot be replayed")]
    Replay(#[source] Fault),
}

/// The running service. Dropping it stops it without draining; what was under way is in the log.
pub struct Service {
    shared: Shared,
    leadership: Leadership,
    ended: watch::Receiver<Option<Result<(), Fault>>>,
    stopper: Stopper,
}

impl Service {
    /// Opens the log and starts the service: it stands by until it holds the lease, then carries first what is pending
    /// in the log and then what comes from the bus. The ports must be prepared already.
    ///
    /// # Errors
    /// [`StartError::Log`] if the log cannot be opened: another process has locked it, or the disk fails.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        Self::start_on(this_machine(&settings).await?, ports, settings).await
    }

    /// The same with the log on `disk`, to which no other process may write; `settings.wal.dir` is not used.
    ///
    /// # Errors
    /// [`StartError::Log`] if the log cannot be opened.
    pub async fn start_on(disk: Arc<dyn Disk>, ports: Ports, settings: Settings) -> Result<Self, StartError> {
        let (stopper, shared) = shared(disk, ports, settings);
        let opened = shared.open_log().await?;
        let (keeper, leadership) = Keeper::new(Arc::clone(&shared.ports.lease), shared.ports.clock.clone());
        let (end, ended) = watch::channel(None);
        let serving = shared.clone();
        tokio::spawn(async move {
            let result = serve(&serving, keeper, opened).await;
            if let Err(fault) = &result {
                error!(%fault, "the worker stopped; the next start continues what was under way");
            }
            end.send_replace(Some(result));
        });
        Ok(Self { shared, leadership, ended, stopper })
    }

    /// Carries what the last run left pending in the log and the bus may have lost, as every start does, and nothing
    /// else.
    ///
    /// # Errors
    /// - [`StartError::Log`] if the log cannot be opened: another process has locked it, or the disk fails.
    /// - [`StartError::Replay`] if another process holds or takes the lease, nearly all operations in the log are
    ///   refused, or a port or the log fails.
    pub async fn replay(ports: Ports, settings: Settings) -> Result<Recovered, StartError> {
        let (stopper, shared) = shared(this_machine(&settings).await?, ports, settings);
        let (log, recovery) = shared.open_log().await?;
        let (mut keeper, leadership) = Keeper::new(Arc::clone(&shared.ports.lease), shared.ports.clock.clone());
        let Ok((term, _)) = tokio::time::timeout(LEASE_WITHIN, keeper.acquire()).await else {
            return Err(StartError::Replay(occupied(&leadership.role())));
        };
        let held = async {
            loop {
                match shared.lasting_refusal() {
                    Some(fault) => return fault,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let replayed = tokio::select! {
            biased;
            replayed = shared.replay(&term, log.clone(), recovery) => replayed,
            // What is cut short is still pending.
            fault = held => Err(fault),
            () = keeper.keep(&term) => Err(Fault::new(FaultClass::Busy, "lease", "lost during the replay; another process works the stream and replays the log")),
        };
        let held = shared.breakers.held().map(|(_, fault)| fault);
        let replayed = replayed.and_then(|recovered| held.map_or(Ok(recovered), Err));
        stopper.stop();
        keeper.lost(&term);
        shared.writers_ended().await;
        log.close().await;
        keeper.release().await;
        replayed.map_err(StartError::Replay)
    }

    /// The current state of the service.
    #[must_use]
    pub fn health(&self) -> Health {
        let Shared { ports, conditions, progress, breakers, recovered, .. } = &self.shared;
        let stores = ports.stores.iter().zip(conditions).map(|(store, of)| (store.target(), of.get()));
        Health {
            role: self.leadership.role(),
            recovered: recovered.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ended: self.ended.borrow().clone(),
            records: progress.records(),
            held: breakers.held(),
            waiting_full: self.shared.room.amount.full(),
            clock: progress.clock(),
            entry_ahead: progress.ahead(),
            stores: stores.collect(),
            bus: progress.bus(),
            done: progress.done(),
        }
    }

    /// Per store, how long the changes of the last five minutes took to become visible.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<Target, Spread> {
        self.shared.progress.latencies()
    }

    /// The role of this process, and its changes.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Waits until the worker ends; the fault that ended it as an error.
    pub async fn ended(&self) -> Result<(), Fault> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(Fault::new(FaultClass::Corrupt, "worker", "the task ended without a result")),
        }
    }

    /// Reads nothing more, finishes what is under way, and ends: after that no port is in use any more, and the lease
    /// is released.
    ///
    /// # Errors
    /// The fault that ended the worker, before the stop or while it finished what was under way.
    pub async fn stop(self) -> Result<(), Fault> {
        self.stopper.stop();
        let result = self.ended().await;
        self.shared.writers_ended().await;
        result
    }
}

/// This machine, with the directory of the log locked for this process.
async fn this_machine(settings: &Settings) -> Result<Arc<dyn Disk>, StartError> {
    let dir = settings.wal.dir.clone();
    let disk = run_blocking(true, move || RealDisk::locked(&dir)).await?;
    Ok(Arc::new(disk))
}

/// Creates what all terms of this process have in common, and the handle that stops it.
fn shared(disk: Arc<dyn Disk>, ports: Ports, settings: Settings) -> (Stopper, Shared) {
    let clock = ports.clock.clone();
    let (stopper, stop) = Stopper::new();
    let shared = Shared {
        conditions: ports.stores.iter().map(|_| SharedCondition::new(clock.clone())).collect(),
        ports,
        room: Arc::new(WaitingRoom::new(&settings.worker)),
        settings: Arc::new(settings),
        disk,
        progress: Arc::new(Progress::new(clock)),
        breakers: Arc::default(),
        given_up: Arc::default(),
        recovered: Arc::new(Mutex::new(None)),
        left: Arc::default(),
        stop,
    };
    (stopper, shared)
}

/// Runs one term after the other, until the service is stopped or fails. Releases the lease at the end.
async fn serve(shared: &Shared, mut keeper: Keeper, opened: (Log, Recovery)) -> Result<(), Fault> {
    let mut opened = Some(opened);
    let result = loop {
        let Some((term, handover)) = shared.stop.during(keeper.acquire()).await else { break Ok(()) };
        match context(shared, &keeper, &term, handover, &mut opened).await {
            Ok(true) => break Ok(()),
            Ok(false) => {}
            Err(fault) => break Err(fault),
        }
    };
    keeper.release().await;
    result
}

/// Runs one term; true if the service was stopped in it, false if the lease was lost.
async fn context(
    shared: &Shared,
    keeper: &Keeper,
    term: &crate::runtime::term::Term,
    mut handover: Handover,
    opened: &mut Option<(Log, Recovery)>,
) -> Result<bool, Fault> {
    loop {
        let Some((log, recovery)) = open(shared, keeper, term, opened).await? else {
            keeper.lost(term);
            return Ok(shared.stop.is_requested());
        };
        let run = tokio::select! {
            biased;
            run = shared.work(term, handover, log.clone(), recovery) => Some(run),
            () = keeper.keep(term) => None,
        };
        match run {
            Some(Ok(Run::Stopped)) => return Ok(true),
            // The log is read again, and replayed for the epoch in which the bus is now.
            Some(Ok(Run::BusLost)) => handover = Handover::Orderly,
            Some(Err(fault)) => {
                keeper.lost(term);
                log.close().await;
                return Err(fault);
            }
            None => {
                keeper.lost(term);
                shared.progress.dropped();
                log.close().await;
                return Ok(shared.stop.is_requested());
            }
        }
        log.close().await;
    }
}

/// The log, opened before or now. To read a long one takes longer than a term, so the lease is renewed meanwhile. `None` if
/// it was lost: then the log stays open for the next term.
async fn open(
    shared: &Shared,
    keeper: &Keeper,
    term: &crate::runtime::term::Term,
    opened: &mut Option<(Log, Recovery)>,
) -> Result<Option<(Log, Recovery)>, Fault> {
    if let Some(opened) = opened.take() {
        return Ok(Some(opened));
    }
    let mut opening = std::pin::pin!(shared.open_log());
    let (result, is_held) = tokio::select! {
        biased;
        result = &mut opening => (result, true),
        () = keeper.keep(term) => (opening.await, false),
    };
    let log = result.map_err(|error| crate::pipeline::log::fault(&error))?;
    match is_held {
        true => Ok(Some(log)),
        false => {
            *opened = Some(log);
            Ok(None)
        }
    }
}

/// The fault of a replay that did not get the lease.
fn occupied(role: &Role) -> Fault {
    let message = match role {
        Role::Standby { holder } if !holder.is_empty() => {
            format!("{holder} holds the lease; stop it first, or leave the log to the next start")
        }
        _ => "no lease of the stream within 5 s; check that the system of record answers".to_owned(),
    };
    Fault::new(FaultClass::Busy, "lease", message)
}
