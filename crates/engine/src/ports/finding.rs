//! What an examination finds: one thing looked at, how it is, and what to change.

use chunk_sync_model::Time;
use serde::Serialize;

use super::{Fault, FaultClass};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and could be better or is yet to be done.
    Warning,
    /// It does not work so.
    Failed,
    /// Nobody answered, or not in time.
    Unreachable,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: `postgres`, `redis`, `log`.
    pub place: &'static str,
    /// What was looked at, such as `wal_level`.
    pub subject: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to change, where something has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What is found in one place, in the order of looking.
#[derive(Debug)]
pub struct Findings {
    place: &'static str,
    found: Vec<Finding>,
}

/// Clocks may differ by so many microseconds.
const CLOCKS: i64 = 1_000_000;

impl Findings {
    /// Nothing yet.
    #[must_use]
    pub fn of(place: &'static str) -> Self {
        Self { place, found: Vec::new() }
    }

    /// All of it.
    #[must_use]
    pub fn into_list(self) -> Vec<Finding> {
        self.found
    }

    /// It is as it should be.
    pub fn ok(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(subject, Level::Ok, text.into(), None);
    }

    /// It works, and could be better.
    pub fn warning(&mut self, subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(subject, Level::Warning, text.into(), Some(remedy.into()));
    }

    /// It does not work so.
    pub fn failed(&mut self, subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(subject, Level::Failed, text.into(), Some(remedy.into()));
    }

    /// It could not be looked at, or not be had.
    pub fn fault(&mut self, subject: &'static str, fault: &Fault) {
        let (level, remedy) = match fault.class {
            FaultClass::Unavailable => (Level::Unreachable, "start the server, or correct its URL"),
            FaultClass::Timeout => (Level::Unreachable, "look why the server does not answer"),
            FaultClass::Busy => (Level::Failed, "try again; somebody else is in the way"),
            FaultClass::Denied => (Level::Failed, "correct name or password, or grant the right that is named"),
            FaultClass::Misconfigured | FaultClass::Rejected => (Level::Failed, ""),
            FaultClass::Corrupt => (Level::Failed, "look whether that is the server it should be"),
            FaultClass::Disk => (Level::Failed, "mend the disk, or make room on it"),
        };
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        self.add(subject, level, fault.message.clone(), remedy);
    }

    /// Its clock, which said `there` between these two times here. Versions are made of times: a writer whose clock is
    /// behind loses where it should win.
    pub fn clock(&mut self, before: Time, there: Time, after: Time) {
        let here = before.micros().midpoint(after.micros());
        let apart = there.micros().saturating_sub(here);
        // As far as can be told: the answer was on its way for a while.
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
        assert_eq!(clock(10_000, 13_000, 14_000), Level::Ok, "it took 4 s to answer");
    }

    #[test]
    fn a_fault_is_unreachable_only_where_nobody_answered() {
        for class in FaultClass::ALL {
            let mut findings = Findings::of("test");
            findings.fault("server", &Fault::new(class, "test", "what it said"));
            let level = findings.into_list()[0].level;
            assert_eq!(level == Level::Unreachable, matches!(class, FaultClass::Unavailable | FaultClass::Timeout));
        }
    }
}
