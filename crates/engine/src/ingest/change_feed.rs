//! Capture: changes that other programs make in the system of record become events on the bus and take the path of all
//! events.
//!
//! A captured event is a signal. By default it carries only the id of the row; the merge reads the row under its lock,
//! and compares it with what was last written or seen there. Two changes of one row in quick succession may therefore be
//! carried as one, and none is carried twice.
//!
//! A transaction arrives in parts, and each part is published as it arrives, so memory does not grow with a transaction.
//! While the bus is full, capture waits in place: the log stays open, what was read is kept, and confirmations and
//! heartbeats go on. Neither of them stands in the way of reading: what was published after the bus was asked what is
//! finished waits for the next question.
//!
//! # What a crash does
//! A position is confirmed only when every entry published up to it is finished on the bus: held by all stores, or in
//! the outbox with the row; and only at the end of a transaction (`window.rs`). If the bus is in the database of the
//! rows ([`FinishedBy::Merge`]), the position is confirmed as soon as the entries are committed there: they are as
//! durable as the rows that they are about, and a server that lost them has lost its slot, or is another server, which
//! is detected as a gap when the log is opened.
//! After a crash before the confirmation, in the middle of a transaction, or if the bus lost entries (its epoch
//! changed), capture begins again at the last confirmed position; what is carried twice changes nothing. If changes may
//! have been missed altogether, because the server did not keep the log or did not publish the table, the rows are
//! compared with what was last seen of them, and the stores with the rows, while reading goes on (`gap.rs`).

mod fold;
mod gap;
mod session;
mod state;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::ingest::publisher::Publisher;
use crate::ports::{Capture, Fault, FaultClass, Ports};
use crate::runtime::lease::Leadership;
use crate::runtime::progress::{Stop, Stopper};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::Settings;
use session::Session;
pub use state::{CaptureMonitor, CaptureState, Phase};

/// The number of rows that are published at once.
const BATCH: usize = 256;

/// The pause after fewer rows than that: at a steady rate, the commits of the pause are published together.
const PAUSE: Duration = Duration::from_millis(10);

/// The interval of questions to the bus what can be confirmed.
const LOOK: Duration = Duration::from_millis(200);

/// The pause before a log that another connection still reads is opened again, and before a full bus is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// The interval of writes to an idle log.
const BEAT: Duration = Duration::from_secs(10);

/// The interval at which the lag is measured and obstacles are looked up, whether capture runs or not.
const MEASURE: Duration = Duration::from_secs(2);

/// The running capture.
pub struct Capturing {
    stopper: Stopper,
    task: JoinHandle<()>,
    monitor: CaptureMonitor,
}

impl Capturing {
    /// Starts to capture whenever this process works the stream.
    #[must_use]
    pub fn start(
        capture: Arc<dyn Capture>,
        ports: Ports,
        publisher: Publisher,
        settings: Arc<Settings>,
        leadership: Leadership,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        let monitor = CaptureMonitor::new(ports.clock.clone());
        let captor = Captor { capture, ports, publisher, settings, leadership, monitor: monitor.clone() };
        Self { stopper, task: tokio::spawn(captor.run(stop)), monitor }
    }

    /// What capture is doing.
    #[must_use]
    pub fn monitor(&self) -> CaptureMonitor {
        self.monitor.clone()
    }

    /// Stops the capture: the next one captures again what is not confirmed.
    pub async fn stop(self) {
        self.stopper.stop();
        // The task ended, or it panicked and the panic was reported.
        let _ = self.task.await;
    }
}

struct Captor {
    capture: Arc<dyn Capture>,
    ports: Ports,
    publisher: Publisher,
    settings: Arc<Settings>,
    leadership: Leadership,
    monitor: CaptureMonitor,
}

impl Captor {
    async fn run(self, stop: Stop) {
        while stop.during(self.leadership.begins()).await.is_some() {
            let working = async { tokio::join!(self.sessions(), self.measure()) };
            if stop.during(self.leadership.during(working)).await.is_none() {
                return;
            }
            self.monitor.enter(Phase::Standby, None);
            info!("this process does not work the stream any more; stopped capturing");
        }
    }

    /// Measures the lag and looks up what the opening of the log waits for.
    async fn measure(&self) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(MEASURE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A lag that cannot be measured is shown as unknown: the last value would be wrong.
            self.monitor.measured(self.capture.lag().await.ok());
            self.monitor.obstacle(self.capture.obstacle());
        }
    }

    /// Runs one session after the other.
    async fn sessions(&self) -> std::convert::Infallible {
        let (mut pauses, mut busy) = (Pauses::new(&self.settings.worker), false);
        loop {
            let began = tokio::time::Instant::now();
            self.monitor.open();
            let fault = match self.open().await {
                Ok(session) => {
                    busy = false;
                    match session.run().await {
                        Err(fault) => fault,
                        Ok(never) => match never {},
                    }
                }
                Err(fault) if fault.class == FaultClass::Busy => {
                    if !std::mem::replace(&mut busy, true) {
                        info!(%fault, "another connection still reads the log; waiting");
                    }
                    fault
                }
                Err(fault) => {
                    busy = false;
                    fault
                }
            };
            if !busy {
                warn!(%fault, "capture failed; restarting at the confirmed position");
            }
            self.monitor.enter(Phase::Failed, Some(fault));
            if began.elapsed() > self.settings.worker.retry_max || busy {
                pauses = Pauses::new(&self.settings.worker);
            }
            tokio::time::sleep(if busy { BUSY_PAUSE } else { pauses.next() }).await;
        }
    }

    async fn open(&self) -> Result<Session<'_>, Fault> {
        let epoch = self.ports.bus.epoch().await?;
        let opened = self.capture.open().await?;
        info!("capturing changes in the system of record");
        self.monitor.gap(opened.gap);
        self.monitor.enter(Phase::Running, None);
        Ok(Session::new(self, opened, epoch))
    }
}
