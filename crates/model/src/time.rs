//! An instant truncated to microseconds, the precision that every store holds without loss.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC, in whole microseconds since 1970. Written as RFC 3339.
///
/// PostgreSQL's `timestamptz` truncates to microseconds, so finer digits are truncated on input rather than lost later.
///
/// ```
/// use chunk_sync_model::Time;
///
/// let time: Time = "2026-01-01T01:00:00.123456789+01:00".parse()?;
/// assert_eq!(time.to_string(), "2026-01-01T00:00:00.123456Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The instant `micros` microseconds after 1970-01-01T00:00:00Z, clamped to the years -9999 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let (min, max) = (Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
        Self(micros.clamp(min, max))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// This instant as a `jiff` timestamp.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        // The constructor clamps the value to the range, so the fallback is never taken.
        Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Seconds from `earlier` to this instant; negative if `earlier` is the later one.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a duration for people and metrics")]
        let micros = (self.0 - earlier.0) as f64;
        micros / 1e6
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Timestamp>()
            .map(Self::from)
            .map_err(|_| format!("`{text}` is not an RFC 3339 time; expected the form 2026-01-31T08:00:00Z"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_micros)
        }
    }
}
