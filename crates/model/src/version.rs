//! Writers, and the order of their changes.

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
    /// Both systems.
    Hybrid,
}

impl Origin {
    /// The name on the wire.
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

/// A source of changes to parts. All processes that publish under one source are one writer. The order of the variants
/// breaks ties between changes of the same microsecond, and is part of the record's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// Events of the code-context indexer.
    Claude,
    /// Events of the knowledge-graph memory.
    Cognee,
    /// Events with source `hybrid`.
    Hybrid,
    /// Direct writes into PostgreSQL.
    Postgres,
    /// Direct writes into Qdrant.
    Qdrant,
    /// Direct writes into Neo4j.
    Neo4j,
    /// Resolutions of conflicts by an operator.
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
    /// All writers, in order.
    pub const ALL: [Self; 7] =
        [Self::Claude, Self::Cognee, Self::Hybrid, Self::Postgres, Self::Qdrant, Self::Neo4j, Self::Operator];

    /// Whether the writer is one of the publishing systems: the only writers that HTTP and `publish` accept.
    #[must_use]
    pub fn publishes(self) -> bool {
        matches!(self, Self::Claude | Self::Cognee | Self::Hybrid)
    }

    /// Whether this writer stands for direct writes into a store. Such a write is based on the state that the store
    /// held.
    #[must_use]
    pub fn is_store(self) -> bool {
        matches!(self, Self::Postgres | Self::Qdrant | Self::Neo4j)
    }

    /// The name on the wire.
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
        known.ok_or_else(|| {
            format!("unknown writer `{name}`; expected one of {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a change to a part. Ordered by time, then writer, then the writer's count within that microsecond.
/// Assigned once; arrival order does not affect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChangeVersion {
    /// When the change was made.
    pub time: Time,
    /// The writer that made the change.
    pub writer: Writer,
    /// How many earlier changes that writer made in the same microsecond.
    pub count: u32,
}

/// The version of one merged state of a chunk. It is below 2^53, so a store that compares numbers as f64 compares it
/// exactly. It alone guards the stores: a store never replaces a state with one of a smaller version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SyncVersion(u64);

impl SyncVersion {
    /// The greatest version: 2^53 - 1. As microseconds since 1970 this is the year 2255.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The greatest version that the service assigns: nine years below [`Self::MAX`], in the year 2246. A version above
    /// it comes from a program other than the service, and must not become that of a record: nothing could follow it.
    pub const CEILING: Self = Self(Self::MAX.0 - (1 << 48));

    /// The greatest version of a store above which a repair raises a record: nine years below [`Self::CEILING`], in the year
    /// 2237. That leaves room for the changes after it.
    pub const HIGHEST_SHOWN: Self = Self(Self::CEILING.0 - (1 << 48));

    /// Whether a store that shows this version refuses a write under `write`: it has that state or a newer one. A version
    /// above [`Self::HIGHEST_SHOWN`] keeps out only what is above that too: else another program wrote it, and could keep
    /// the chunk from being written for ever.
    #[must_use]
    pub fn keeps_out(self, write: Self) -> bool {
        self >= write && (self <= Self::HIGHEST_SHOWN || write > Self::HIGHEST_SHOWN)
    }

    /// Wraps a version read from a store. The service never assigns a value above [`Self::MAX`]; such a value is
    /// clamped to it.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self(version.min(Self::MAX.0))
    }

    /// The version that follows `self` for a state whose newest change was made at `newest`: the greater of `self` + 1
    /// and `newest` in microseconds.
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

    /// The number as a signed integer, for stores without unsigned ones. It is below 2^53, so the conversion is exact.
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
