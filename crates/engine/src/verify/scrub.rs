//! The scrubber: verifies continuously and slowly while the service runs, and repairs what it finds on the path of
//! every change.
//!
//! It reads small pages at a bounded rate and writes only signals to the bus, so it does not block other work. A store
//! that does not answer ends the pass; the next pass begins when it is due. A chunk that still differs after its repair is
//! not repaired again before it changes: a store that refuses it would refuse it in each pass. After a start the dead
//! letters show which (`refused.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_model::SyncVersion;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use crate::ingest::publisher::Publisher;
use crate::ports::Fault;
use crate::ports::Ports;
use crate::runtime::lease::Leadership;
use crate::runtime::metrics;
use crate::runtime::progress::{Stop, Stopper};
use crate::verify::refused;
use crate::verify::repair::{self, Action, Orphans};
use crate::verify::{self, Finding, Options, Report};

/// Chunks read from a store at once; few enough to delay no other reader.
const PAGE: usize = 128;

/// The maximal number of differences in the result of a pass: examples for the status.
const LISTED: usize = 20;

/// The maximal number of findings repaired after one pass; the next pass finds the others.
const KEPT: usize = 10_000;

/// The maximal number of chunks that are remembered as repaired in vain.
const UNREPAIRED: usize = 10 * KEPT;

/// The pause between the start and the first pass, unless the interval is shorter: the backlog is carried first.
const FIRST: Duration = Duration::from_secs(60);

/// The settings of the scrubber.
#[derive(Clone, Debug)]
pub struct ScrubSettings {
    /// From the beginning of one pass to that of the next; after a pass that takes longer, the next begins at once.
    pub interval: Duration,
    /// The maximal number of chunks compared per second.
    pub rate: u32,
    /// Whether findings are repaired, or only counted.
    pub repair: bool,
}

/// The result of one pass.
#[derive(Clone, Debug)]
pub struct Scrubbed {
    /// The report of the verification, which lists some of the differences and counts all.
    pub report: Report,
    /// The number of chunks that were repaired.
    pub repaired: u64,
    /// The number of chunks on which the operator must decide.
    pub undecided: u64,
}

/// Called with the result of every pass.
pub type OnScrubbed = Arc<dyn Fn(&Scrubbed) + Send + Sync>;

/// The running scrubber.
pub struct Scrubbing {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Scrubbing {
    /// Starts to scrub whenever this process works the stream; calls `told` after every completed pass.
    #[must_use]
    pub fn start(
        ports: Ports,
        publisher: Publisher,
        settings: ScrubSettings,
        leadership: Leadership,
        told: OnScrubbed,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        let scrubber = Scrubber { ports, publisher, settings, leadership, told, unrepaired: Mutex::default() };
        Self { stopper, task: tokio::spawn(scrubber.run(stop)) }
    }

    /// Stops the scrubber, also in the middle of a pass: signals that were published stay on the bus.
    pub async fn stop(self) {
        self.stopper.stop();
        // The task ended, or it panicked and the panic was reported.
        let _ = self.task.await;
    }
}

struct Scrubber {
    ports: Ports,
    publisher: Publisher,
    settings: ScrubSettings,
    leadership: Leadership,
    told: OnScrubbed,
    /// Chunks that a repair did not correct, each with its version after that.
    unrepaired: Mutex<BTreeMap<Uuid, SyncVersion>>,
}

impl Scrubber {
    async fn run(self, stop: Stop) {
        while stop.during(self.leadership.begins()).await.is_some() {
            if stop.during(self.leadership.during(self.passes(&stop))).await.is_none() {
                return;
            }
        }
    }

    async fn passes(&self, stop: &Stop) {
        let mut pause = FIRST.min(self.settings.interval);
        while stop.during(tokio::time::sleep(pause)).await.is_some() {
            let began = Instant::now();
            match stop.during(self.pass()).await {
                Some(Ok(scrubbed)) => self.propagate(&scrubbed),
                Some(Err(fault)) => warn!(%fault, "comparing the stores failed; retrying at the next pass"),
                None => return,
            }
            pause = self.settings.interval.saturating_sub(began.elapsed());
        }
    }

    async fn pass(&self) -> Result<Scrubbed, Fault> {
        let options =
            Options { page: PAGE, rate: Some(self.settings.rate), listed: LISTED, kept: KEPT, ..Options::default() };
        let mut report = verify::verify(&self.ports, &options, &|_| {}).await?;
        metrics::verified(&report, self.ports.clock.now());
        self.alarm(&report).await?;
        let mut findings = std::mem::take(&mut report.findings);
        findings.retain(|finding| !self.was_repaired_in_vain(finding));
        if self.settings.repair {
            self.leave_out_refused(&mut findings).await;
        }
        let steps = repair::plan(&findings, Orphans::List);
        let undecided =
            steps.iter().filter(|step| matches!(step.action, Action::Undecided | Action::Absent)).count() as u64;
        let mut repaired = 0;
        if self.settings.repair && self.can_repair().await {
            let published = repair::publish(&self.ports, &self.publisher, &steps, &|_| {}).await?;
            if let Some(last) = published.last {
                repair::until_finished(&*self.ports.bus, last, &|_| {}).await?;
                let after = verify::look_again(&self.ports, &options, findings).await?;
                self.note_unrepaired(&after.findings);
                repaired = after.cleared;
                metrics::repaired(repaired);
            }
        }
        Ok(Scrubbed { report, repaired, undecided })
    }

    /// Whether repairs can be merged. The comparison is reported in any case.
    async fn can_repair(&self) -> bool {
        let takes_writes = self.ports.records.takes_writes().await;
        if let Err(fault) = &takes_writes {
            warn!(%fault, "compared the stores and repaired nothing");
        }
        takes_writes.is_ok()
    }

    /// Reports what should be known before anything is repaired.
    async fn alarm(&self, report: &Report) -> Result<(), Fault> {
        for store in report.emptied() {
            let missing = report.stores.get(&store).map(|store| store.missing).unwrap_or_default();
            warn!(%store, missing, chunks = report.chunks, "the store lacks most of its chunks; refilling it");
        }
        repair::suspect_restore(&self.ports, report).await?;
        Ok(())
    }

    fn was_repaired_in_vain(&self, finding: &Finding) -> bool {
        let unrepaired = self.unrepaired.lock().unwrap_or_else(PoisonError::into_inner);
        // A row that is absent is looked at again in each pass.
        finding.row.is_some() && unrepaired.get(&finding.id) == Some(&finding.version)
    }

    /// Takes those out of the findings that a store has refused already, also in an earlier process.
    async fn leave_out_refused(&self, findings: &mut Vec<Finding>) {
        match refused::leave_out(&*self.ports.bus, findings).await {
            Ok(refused) => self.note_unrepaired(&refused),
            Err(fault) => {
                warn!(%fault, "could not read which chunks the stores have refused; repairing them once more");
            }
        }
    }

    fn note_unrepaired(&self, findings: &[Finding]) {
        let mut unrepaired = self.unrepaired.lock().unwrap_or_else(PoisonError::into_inner);
        for finding in findings {
            unrepaired.insert(finding.id, finding.version);
        }
        // A forgotten chunk is repaired once more.
        while unrepaired.len() > UNREPAIRED {
            unrepaired.pop_first();
        }
    }

    fn propagate(&self, scrubbed: &Scrubbed) {
        let Scrubbed { report, repaired, undecided } = scrubbed;
        if report.consistent {
            info!(chunks = report.chunks, seconds = report.seconds, "the stores are equal");
        } else {
            warn!(chunks = report.chunks, differing = report.differing, repaired, undecided, "the stores differ");
        }
        (self.told)(scrubbed);
    }
}
