//! Places outside of the database that keep the last random value inserted there.

use async_trait::async_trait;
use chunk_sync_model::Time;
use uuid::Uuid;

use super::Fault;

/// A random value that was inserted into the database, as another place keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The value.
    pub value: Uuid,
    /// When it was inserted, by the clock of the process.
    pub at: Time,
}

impl Heartbeat {
    /// Its form as text: the value, and the microseconds since 1970.
    #[must_use]
    pub fn recorded(&self) -> String {
        format!("{} {}", self.value, self.at.micros())
    }

    /// Parses the form as text.
    #[must_use]
    pub fn from_recorded(text: &str) -> Option<Self> {
        let (value, micros) = text.trim().split_once(' ')?;
        Some(Self { value: value.parse().ok()?, at: Time::from_micros(micros.parse().ok()?) })
    }
}

/// A place that keeps the last value: the directory of the log, Redis. A database that lacks the value was restored to
/// a state before it.
#[async_trait]
pub trait Heartbeats: Send + Sync {
    /// The name of the place, such as `the directory of the log`.
    fn place(&self) -> String;

    /// The value that was noted last; `None` if none was, or if it cannot be parsed.
    async fn noted(&self) -> Result<Option<Heartbeat>, Fault>;

    /// Notes a value. Called after the value is durable in the database.
    async fn note(&self, beat: Heartbeat) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_read_as_it_was_recorded() {
        let beat = Heartbeat { value: Uuid::max(), at: Time::from_micros(1_700_000_000_000_000) };
        assert_eq!(Heartbeat::from_recorded(&format!("{}\n", beat.recorded())), Some(beat));
        for text in ["", "x 7", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            assert_eq!(Heartbeat::from_recorded(text), None, "{text}");
        }
    }
}
