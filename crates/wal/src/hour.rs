//! The names of the log's files: `wal_YYYYMMDD_HH.jsonl`, one for each hour (UTC) in which something was written.
//!
//! Names sort in the order of their hours. Files whose name does not have exactly this form do not belong to the log
//! and are left alone.

use std::time::Duration;

use jiff::civil::{DateTime, datetime};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

/// The hour whose lines a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hour(DateTime);

impl Hour {
    /// The earliest hour of a file, so that the year always has four digits.
    const FIRST: Self = Self(datetime(1970, 1, 1, 0, 0, 0, 0));

    pub(crate) fn of(now: Timestamp) -> Self {
        let now = Offset::UTC.to_datetime(now);
        Self(now.date().at(now.hour(), 0, 0, 0)).max(Self::FIRST)
    }

    /// The hour in the name of a file; `None` if the file does not belong to the log.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("wal_")?.strip_suffix(".jsonl")?;
        let (date, hour) = digits.split_once('_')?;
        let part = |from, to| date.get(from..to)?.parse::<i8>().ok();
        let year = date.get(..4)?.parse().ok()?;
        let start = DateTime::new(year, part(4, 6)?, part(6, 8)?, hour.parse().ok()?, 0, 0, 0).ok()?;
        Some(Self(start)).filter(|hour| hour.file() == name)
    }

    /// The hour after this one; the last hour that can be written is its own successor.
    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add(1.hour()).unwrap_or(self.0))
    }

    pub(crate) fn file(self) -> String {
        let start = self.0;
        format!("wal_{:04}{:02}{:02}_{:02}.jsonl", start.year(), start.month(), start.day(), start.hour())
    }

    /// Whether the hour ended at least `keep` before `now`.
    pub(crate) fn ended_before(self, now: Timestamp, keep: Duration) -> bool {
        now.checked_sub(keep).is_ok_and(|horizon| self < Self::of(horizon))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_named_after_its_hour_in_utc() {
        let hour = Hour::of("2026-11-23T04:59:59.999+02:00".parse().unwrap());
        assert_eq!(hour.file(), "wal_20261123_02.jsonl");
        assert_eq!(Hour::of_file("wal_20261123_02.jsonl"), Some(hour));
    }

    #[test]
    fn only_exact_names_belong_to_the_log() {
        for name in [
            "wal_20261123_02.jsonl.damaged",
            "wal_20261123_24.jsonl",
            "wal_20261323_02.jsonl",
            "wal_20261123_2.jsonl",
            "wal_20261123_+2.jsonl",
            "wal_20261123.jsonl",
            "xwal_20261123_02.jsonl",
            "wal_äöüß1123_02.jsonl",
            "wal.lock",
        ] {
            assert_eq!(Hour::of_file(name), None, "{name}");
        }
    }

    #[test]
    fn an_hour_has_ended_only_when_all_of_it_has() {
        let hour = Hour::of("2026-11-23T04:10:00Z".parse().unwrap());
        let keep = Duration::from_secs(3600);
        assert!(!hour.ended_before("2026-11-23T05:59:59Z".parse().unwrap(), keep));
        assert!(hour.ended_before("2026-11-23T06:00:00Z".parse().unwrap(), keep));
        assert!(!hour.ended_before("2026-11-23T06:00:00Z".parse().unwrap(), Duration::MAX));
    }
}
