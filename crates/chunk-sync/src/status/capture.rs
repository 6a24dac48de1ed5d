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

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(phase: Phase) -> Capture {
        Capture {
            phase: phase.as_str().to_owned(),
            running: phase.runs(),
            since: Time::from_micros(0),
            lag_bytes: Some(7),
            fault: Some("refused by the test".to_owned()),
            blocked_by: None,
            gap: None,
        }
    }

    #[test]
    fn capture_is_down_once_it_has_not_run_for_longer_than_a_takeover_takes() {
        let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
        let all = [Phase::Standby, Phase::Opening, Phase::Running, Phase::BusFull, Phase::Failed];
        for phase in all {
            assert_eq!(capture(phase).is_down(at(10)), None, "{phase:?}: for a moment");
        }
        for phase in [Phase::Standby, Phase::Running, Phase::BusFull] {
            assert_eq!(capture(phase).is_down(at(3_600)), None, "{phase:?}: nothing is wrong");
        }
        for phase in [Phase::Opening, Phase::Failed] {
            let reason = capture(phase).is_down(at(11)).unwrap_or_default();
            let told = "capture: not running since 1970-01-01T00:00:00Z, 7 bytes behind: refused by the test";
            assert_eq!(reason, told, "{phase:?}");
        }
    }
}
