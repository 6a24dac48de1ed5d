//! The findings of an examination: one property of a server or file, its state, and what to change.

use chunk_sync_model::Time;
use serde::Serialize;

use super::{Fault, FaultClass};

/// The state of what was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// It works, but could be better or is not finished.
    Warning,
    /// It does not work as configured.
    Failed,
    /// The server did not answer, or not in time.
    Unreachable,
}

/// One examined property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: `postgres`, `redis`, `log`.
    pub place: &'static str,
    /// The property, such as `wal_level`.
    pub subject: &'static str,
    /// Its state.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// The remedy, where something has to be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The findings of one server or file, in the order of examination.
#[derive(Debug)]
pub struct Findings {
    place: &'static str,
    found: Vec<Finding>,
}

/// The tolerated difference of two clocks, in microseconds.
const CLOCKS: i64 = 1_000_000;

impl Findings {
    /// An empty list of findings.
    #[must_use]
    pub fn of(place: &'static str) -> Self {
        Self { place, found: Vec::new() }
    }

    /// All findings.
    #[must_use]
    pub fn into_list(self) -> Vec<Finding> {
        self.found
    }

    /// Adds a finding: as it should be.
    pub fn ok(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(subject, Level::Ok, text.into(), None);
    }

    /// Adds a finding: it works, but could be better.
    pub fn warning(&mut self, subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(subject, Level::Warning, text.into(), Some(remedy.into()));
    }

    /// Adds a finding: it does not work as configured.
    pub fn failed(&mut self, subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(subject, Level::Failed, text.into(), Some(remedy.into()));
    }

    /// Adds a finding: the property could not be read, or what was requested could not be had.
    pub fn fault(&mut self, subject: &'static str, fault: &Fault) {
        let (level, remedy) = match fault.class {
            FaultClass::Unavailable => (Level::Unreachable, "start the server, or correct its URL"),
            FaultClass::Timeout => (Level::Unreachable, "find out why the server does not answer"),
            FaultClass::Busy => (Level::Failed, "try again; another process or transaction is in the way"),
            FaultClass::Denied => (Level::Failed, "correct user name or password, or grant the privilege"),
            FaultClass::Misconfigured | FaultClass::Rejected => (Level::Failed, ""),
            FaultClass::Corrupt => (Level::Failed, "check that this is the right server"),
            FaultClass::Disk => (Level::Failed, "repair the disk, or free space on it"),
        };
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        self.add(subject, level, fault.message.clone(), remedy);
    }

    /// Compares the clock of the server, which showed `there` between the local times `before` and `after`. Versions
    /// are made of times: a writer whose clock is behind loses where it should win.
    pub fn clock(&mut self, before: Time, there: Time, after: Time) {
        let here = before.micros().midpoint(after.micros());
        let apart = there.micros().saturating_sub(here);
        // The answer was in transit for an unknown time, so a time between the two local ones counts as equal.
        let surely = apart.saturating_abs().saturating_sub((after.micros() - before.micros()) / 2);
        let seconds = apart as f64 / 1e6;
        if surely > CLOCKS {
            let ahead = if apart > 0 { "ahead of" } else { "behind" };
            self.warning(
                "clock",
                format!("{:.1} s {ahead} the clock of this machine", seconds.abs()),
                "synchronise the clocks of both machines (NTP): the newer change wins by the clock of its writer",
            );
        } else {
            self.ok("clock", format!("within {:.1} s of this machine's", seconds.abs()));
        }
    }

    fn add(&mut self, subject: &'static str, level: Level, text: String, remedy: Option<String>) {
        self.found.push(Finding { place: self.place, subject, level, text, remedy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(before: i64, there: i64, after: i64) -> Level {
        let mut findings = Findings::of("test");
        let [before, there, after] = [before, there, after].map(|millis| Time::from_micros(millis * 1000));
        findings.clock(before, there, after);
        findings.into_list()[0].level
    }

    #[test]
    fn clocks_differ_only_where_the_way_of_the_answer_does_not_explain_it() {
        assert_eq!(clock(10_000, 10_900, 10_000), Level::Ok);
        assert_eq!(clock(10_000, 11_100, 10_000), Level::Warning);
        assert_eq!(clock(10_000, 8_900, 10_000), Level::Warning);
        assert_eq!(clock(10_000, 13_000, 14_000), Level::Ok, "the answer took 4 s");
    }

    #[test]
    fn a_fault_is_unreachable_only_where_no_server_answered() {
        for class in FaultClass::ALL {
            let mut findings = Findings::of("test");
            findings.fault("server", &Fault::new(class, "test", "the server's message"));
            let level = findings.into_list()[0].level;
            assert_eq!(level == Level::Unreachable, matches!(class, FaultClass::Unavailable | FaultClass::Timeout));
        }
    }
}
