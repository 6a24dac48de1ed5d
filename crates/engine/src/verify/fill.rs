//! Filling: a store that is new in the installation gets every living chunk on the path of every change, and is then
//! compared. It counts as filled once a comparison finds nothing that a repair could change; chunks in it that have
//! neither row nor record are listed and not changed.
//!
//! # What a crash does
//! A store is recorded as being filled before the first signal is published, and as filled after a comparison that read
//! the store itself. After a crash in between, the filling begins again: a row that the store already holds is skipped
//! there, because a signal that fills does not change the version of the chunk. A change that is merged meanwhile goes
//! to the new store as to every other one, because no process merges with the old set of stores (see
//! [`Fence`](crate::ports::Fence)).

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_model::Target;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::ingest::publisher::Publisher;
use crate::ingest::row_event;
use crate::ports::{Fault, FaultClass, Installation, Installed, Ports, RowPage};
use crate::runtime::metrics;
use crate::runtime::progress::{Stop, Stopper};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;
use crate::verify::repair::{self, Action, Orphans, Step};
use crate::verify::{Options, verify};

/// The number of rows that are read, and of signals that are published, at once.
const BATCH: usize = 256;

/// The maximal number of findings repaired after one comparison; the next comparison finds the others.
const KEPT: usize = 10_000;

/// The number of undecided chunks whose ids are logged.
const NAMED: usize = 5;

/// The progress of filling one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// Rows published for the store.
    pub published: u64,
    /// Rows to publish, counted at the start.
    pub rows: u64,
    /// Whether all rows are published and the store is being compared.
    pub comparing: bool,
    /// The last error; the filling is retried.
    pub fault: Option<String>,
}

/// The stores that are being filled, for status and readiness. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct FillState(Arc<watch::Sender<BTreeMap<Target, Filled>>>);

impl FillState {
    /// Every store that is being filled.
    #[must_use]
    pub fn get(&self) -> BTreeMap<Target, Filled> {
        self.0.borrow().clone()
    }

    /// Waits until no store is being filled.
    pub async fn ended(&self) {
        // The sender lives as long as `self` does.
        let _ = self.0.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    fn set(&self, target: Target, change: impl FnOnce(&mut Filled)) {
        self.0.send_modify(|stores| change(stores.entry(target).or_default()));
    }

    fn end(&self, target: Target) {
        self.0.send_modify(|stores| drop(stores.remove(&target)));
        metrics::filling(target, false);
    }
}

/// The running task that fills all stores that need it.
pub struct Filling {
    state: FillState,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Filling {
    /// Starts to fill the stores that `installed` records as not filled.
    #[must_use]
    pub fn start(
        ports: Ports,
        publisher: Publisher,
        installation: Arc<dyn Installation>,
        installed: &Installed,
        settings: WorkerSettings,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        let state = FillState::default();
        for store in &ports.stores {
            metrics::filling(store.target(), installed.filling.contains(&store.target()));
        }
        installed.filling.iter().for_each(|target| state.set(*target, |_| {}));
        let filler = Filler { ports, publisher, installation, settings, state: state.clone() };
        let task = tokio::spawn(filler.run(installed.version, installed.filling.iter().copied().collect(), stop));
        Self { state, stopper, task }
    }

    /// The progress.
    #[must_use]
    pub fn state(&self) -> FillState {
        self.state.clone()
    }

    /// Stops the task, also halfway: the next start begins the filling again.
    pub async fn stop(self) {
        self.stopper.stop();
        // A panic is reported where it happened; the store stays recorded as not filled.
        let _ = self.task.await;
    }
}

struct Filler {
    ports: Ports,
    publisher: Publisher,
    installation: Arc<dyn Installation>,
    settings: WorkerSettings,
    state: FillState,
}

impl Filler {
    async fn run(self, version: u64, targets: Vec<Target>, stop: Stop) {
        for target in targets {
            let mut pauses = Pauses::new(&self.settings);
            loop {
                match stop.during(self.fill(version, target)).await {
                    Some(Ok(())) => break self.state.end(target),
                    Some(Err(fault)) => {
                        warn!(%target, %fault, "filling the store failed; retrying");
                        self.state.set(target, |filled| filled.fault = Some(fault.to_string()));
                    }
                    None => return,
                }
                if stop.during(tokio::time::sleep(pauses.next())).await.is_none() {
                    return;
                }
            }
        }
    }

    async fn fill(&self, version: u64, target: Target) -> Result<(), Fault> {
        let rows = self.ports.records.counts().await?.chunks;
        self.state.set(target, |filled| *filled = Filled { rows, ..Filled::default() });
        info!(%target, rows, "filling a new store of the installation");
        self.publish(target).await?;
        self.state.set(target, |filled| filled.comparing = true);
        let undecided = self.compare(target).await?;
        self.installation.filled(version, target).await?;
        let named: Vec<String> = undecided.iter().take(NAMED).map(|step| step.id.to_string()).collect();
        if undecided.is_empty() {
            info!(%target, "filled the store; it equals the rows");
        } else {
            warn!(
                %target, chunks = undecided.len(), such_as = named.join(", "),
                "filled the store; it also holds chunks with neither row nor record: `chunk-sync verify` lists \
                 them, and `verify --repair --orphans delete` removes them"
            );
        }
        Ok(())
    }

    /// Publishes a signal for every row, and waits until all of them are finished.
    async fn publish(&self, target: Target) -> Result<(), Fault> {
        // The name is unique, so that no signal is taken for a repetition of an earlier filling.
        let (view, targets) = (format!("fill {target} {}", Uuid::new_v4()), self.ports.signalled());
        let (mut after, mut last) = (None, None);
        loop {
            let RowPage { rows: page, is_last } = self.ports.records.rows(after, BATCH).await?;
            after = page.last().map(|row| row.id).or(after);
            let now = self.ports.clock.now();
            let there = page.iter().filter(|row| row.state.is_some());
            let events: Vec<_> = there.map(|row| row_event::fill(row.id, now, &view, &targets)).collect();
            let count = events.len() as u64;
            last = self.publisher.publish_when_there_is_room(events).await?.last().copied().or(last);
            self.state.set(target, |filled| filled.published += count);
            if is_last {
                break;
            }
        }
        match last {
            Some(last) => repair::until_finished(&*self.ports.bus, last, &|_| {}).await,
            None => Ok(()),
        }
    }

    /// Compares the store with the rows and repairs what differs, until only undecided chunks are left; returns those.
    async fn compare(&self, target: Target) -> Result<Vec<Step>, Fault> {
        self.ports.records.takes_writes().await?;
        let mut compared = self.ports.clone();
        compared.stores.retain(|store| store.target() == target);
        let options = Options { listed: 0, kept: KEPT, ..Options::default() };
        let report = verify(&compared, &options, &|_| {}).await?;
        let steps = repair::plan(&report.findings, Orphans::List);
        let (undecided, decided): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|step| matches!(step.action, Action::Undecided | Action::Absent));
        if decided.is_empty() && report.unsettled == 0 && report.differing == undecided.len() as u64 {
            return Ok(undecided);
        }
        let published = repair::publish(&self.ports, &self.publisher, &decided, &|_| {}).await?;
        if let Some(last) = published.last {
            repair::until_finished(&*self.ports.bus, last, &|_| {}).await?;
        }
        let message = format!("{} of {} chunks differed from the rows", report.differing, report.chunks);
        Err(Fault::new(FaultClass::Busy, "fill", message))
    }
}
