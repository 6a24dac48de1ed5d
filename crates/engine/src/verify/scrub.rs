//! The scrubber: verification all the time, slowly, beside the service; what it finds it repairs on the normal way.
//!
//! It reads small pages at a bounded rate and writes nothing but signals to the bus, so it holds up nobody. A store that
//! does not answer ends the pass; the next begins when it is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::ingest::publisher::Publisher;
use crate::ports::Fault;
use crate::ports::Ports;
use crate::runtime::lease::Leadership;
use crate::runtime::progress::{Stop, Stopper};
use crate::runtime::{clock, metrics};
use crate::verify::repair::{self, Action, Orphans};
use crate::verify::{self, Options, Report};

/// Chunks read from a store at once: a pause for nobody.
const PAGE: usize = 128;

/// Findings repaired after one pass, at most; the others are found again.
const KEPT: usize = 10_000;

/// How long after the start the first pass begins, where one is not due sooner: what had piled up is carried first.
const FIRST: Duration = Duration::from_secs(60);

/// How the scrubber works.
#[derive(Clone, Debug)]
pub struct ScrubSettings {
    /// From the beginning of a pass to that of the next; a pass that takes longer is followed at once.
    pub interval: Duration,
    /// Chunks compared a second, at most.
    pub rate: u32,
    /// Whether what is found is repaired, or only counted.
    pub repair: bool,
}

/// What one pass came to.
#[derive(Clone, Debug)]
pub struct Scrubbed {
    /// What was found.
    pub report: Report,
    /// Chunks mended.
    pub repaired: u64,
    /// Chunks that a person must decide on.
    pub undecided: u64,
}

/// Told of every pass.
pub type Told = Arc<dyn Fn(&Scrubbed) + Send + Sync>;

/// The running scrubber.
pub struct Scrubbing {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Scrubbing {
    /// Begins to scrub whenever this process works the stream; `told` hears of every pass that was completed.
    #[must_use]
    pub fn start(
        ports: Ports,
        publisher: Publisher,
        settings: ScrubSettings,
        leadership: Leadership,
        told: Told,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        let scrubber = Scrubber { ports, publisher, settings, leadership, told };
        Self { stopper, task: tokio::spawn(scrubber.run(stop)) }
    }

    /// Ends it, in the middle of a pass as well: whatever it published is on the bus.
    pub async fn stop(self) {
        self.stopper.stop();
        // It ended, or it panicked and said so.
        let _ = self.task.await;
    }
}

struct Scrubber {
    ports: Ports,
    publisher: Publisher,
    settings: ScrubSettings,
    leadership: Leadership,
    told: Told,
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
                Some(Ok(scrubbed)) => self.tell(&scrubbed),
                Some(Err(fault)) => warn!(%fault, "the stores could not be compared: trying again later"),
                None => return,
            }
            pause = self.settings.interval.saturating_sub(began.elapsed());
        }
    }

    async fn pass(&self) -> Result<Scrubbed, Fault> {
        let options =
            Options { page: PAGE, rate: Some(self.settings.rate), listed: 0, kept: KEPT, ..Options::default() };
        let mut report = verify::verify(&self.ports, &options, &|_| {}).await?;
        metrics::verified(&report, clock::now());
        let findings = std::mem::take(&mut report.findings);
        let steps = repair::plan(&findings, Orphans::List);
        let undecided = steps.iter().filter(|step| step.action == Action::Undecided).count() as u64;
        let mut repaired = 0;
        if self.settings.repair {
            let published = repair::publish(&self.ports, &self.publisher, &steps, &|_| {}).await?;
            if let Some(last) = published.last {
                repair::until_finished(&*self.ports.bus, last, &|_| {}).await?;
                repaired = verify::look_again(&self.ports, &options, findings).await?.cleared;
                metrics::repaired(repaired);
            }
        }
        Ok(Scrubbed { report, repaired, undecided })
    }

    fn tell(&self, scrubbed: &Scrubbed) {
        let Scrubbed { report, repaired, undecided } = scrubbed;
        if report.consistent {
            info!(chunks = report.chunks, seconds = report.seconds, "all stores hold the same");
        } else {
            warn!(chunks = report.chunks, differing = report.differing, repaired, undecided, "the stores differed");
        }
        (self.told)(scrubbed);
    }
}
