//! Capture in the status document: whether it runs, since when, and how far it is behind.

use chunk_sync_engine::{CaptureMonitor, CaptureState, Phase};
use chunk_sync_model::Time;
use serde::{Deserialize, Serialize};

/// How long capture may be down before the service counts as not ready: long enough for a takeover.
const PATIENCE: f64 = 10.0;

/// The state of capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Capture {
    /// `running`, `bus_full` (it waits in place), `opening`, `failed`, or `standby` (another process captures).
    pub phase: String,
    /// Whether it reads PostgreSQL's log.
    pub running: bool,
    /// Since when it has been running, or has not.
    pub since: Time,
    /// The bytes of log that PostgreSQL keeps for it; absent if PostgreSQL did not answer.
    pub lag_bytes: Option<u64>,
    /// Why it does not run, or what fails while it runs.
    pub fault: Option<String>,
    /// The sessions that the creation of the slot waits for.
    pub blocked_by: Option<String>,
    /// The gap whose changes are being looked for.
    pub gap: Option<String>,
}

impl Capture {
    /// The present state.
    #[must_use]
    pub fn of(monitor: &CaptureMonitor) -> Self {
        let CaptureState { phase, since, fault, obstacle, lag_bytes, gap, .. } = monitor.state();
        Self {
            phase: phase.as_str().to_owned(),
            running: phase.runs(),
            since,
            lag_bytes,
            fault: fault.map(|fault| fault.to_string()),
            blocked_by: obstacle,
            gap: gap.map(|gap| gap.to_string()),
        }
    }

    /// Why the service is not ready: capture has been down for long. `None` if it runs, or another process captures.
    #[must_use]
    pub fn is_down(&self, now: Time) -> Option<String> {
        let down = !self.running && self.phase != Phase::Standby.as_str();
        (down && now.seconds_since(self.since) > PATIENCE).then(|| self.text())
    }

    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let lag = self.lag_bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes behind"));
        let fault = self.fault.as_ref().map_or_else(String::new, |fault| format!(": {fault}"));
        let blocked = self.blocked_by.as_ref().map_or_else(String::new, |by| format!("; it waits for {by}"));
        let gap = self.gap.as_ref().map_or_else(String::new, |gap| format!("; looking for missed changes: {gap}"));
        let since = self.since;
        match self.phase.as_str() {
            "running" => format!("capture: running since {since}{lag}{fault}{gap}"),
            "bus_full" => format!("capture: waits in place, because the bus is full{lag}{fault}{gap}"),
            "standby" => "capture: another process captures".to_owned(),
            _ => format!("capture: not running since {since}{lag}{fault}{blocked}{gap}"),
        }
    }
}
