//! Who changed something, and in which order changes count.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Time;

/// The system that a chunk comes from, and the `source` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The code-context indexer.
    Claude,
    /// The knowledge-graph memory.
    Cognee,
    /// Both.
    Hybrid,
}

impl Origin {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Cognee => "cognee",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whoever can change a part. Two processes with one source are one writer. The order of the variants decides between
/// changes of the same microsecond, and is part of the record's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// Events of the code-context indexer.
    Claude,
    /// Events of the knowledge-graph memory.
    Cognee,
    /// Events said to come from both.
    Hybrid,
    /// Somebody wrote into PostgreSQL.
    Postgres,
    /// Somebody wrote into Qdrant.
    Qdrant,
    /// Somebody wrote into Neo4j.
    Neo4j,
    /// A person settled a conflict.
    Operator,
}

impl From<Origin> for Writer {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Claude => Self::Claude,
            Origin::Cognee => Self::Cognee,
            Origin::Hybrid => Self::Hybrid,
        }
    }
}

impl Writer {
    /// Every one, in order.
    pub const ALL: [Self; 7] =
        [Self::Claude, Self::Cognee, Self::Hybrid, Self::Postgres, Self::Qdrant, Self::Neo4j, Self::Operator];

    /// Whether it stands for whoever wrote into a store directly, on top of what that store showed.
    #[must_use]
    pub fn is_store(self) -> bool {
        matches!(self, Self::Postgres | Self::Qdrant | Self::Neo4j)
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Cognee => "cognee",
            Self::Hybrid => "hybrid",
            Self::Postgres => "postgres",
            Self::Qdrant => "qdrant",
            Self::Neo4j => "neo4j",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Writer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|writer| writer.as_str() == name);
        known.ok_or_else(|| format!("`{name}` is none of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When and by whom a part was changed: compared by time, then writer, then the writer's count within that microsecond.
/// Assigned once, never altered on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChangeVersion {
    /// When the change was made.
    pub time: Time,
    /// Who made it.
    pub writer: Writer,
    /// How many changes of that writer in that microsecond came before.
    pub count: u32,
}

/// The version of one merged state of a chunk, below 2^53 so that a store that compares in f64 compares it exactly.
/// Stores are guarded by it alone: none ever goes back to a smaller one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SyncVersion(u64);

impl SyncVersion {
    /// The greatest version: 2^53 - 1, in microseconds the year 2255.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// A version that a store shows. Values above [`Self::MAX`] are nobody's and become it.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self(version.min(Self::MAX.0))
    }

    /// The version after `self` for a state whose newest change was made at `newest`.
    #[must_use]
    pub fn next(self, newest: Time) -> Self {
        let micros = u64::try_from(newest.micros()).unwrap_or(0);
        Self::new(self.0.saturating_add(1).max(micros))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number as stores with signed integers hold it; below 2^53, so nothing is cut.
    #[must_use]
    #[allow(clippy::cast_possible_wrap, reason = "below 2^53")]
    pub fn signed(self) -> i64 {
        self.0 as i64
    }
}

impl fmt::Display for SyncVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
