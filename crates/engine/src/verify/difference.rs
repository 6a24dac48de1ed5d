//! How one store can be wrong about one chunk.

use chunk_sync_model::Target;
use serde::Serialize;
use uuid::Uuid;

/// One chunk that is not in one store as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which chunk.
    pub id: Uuid,
    /// Which store is wrong.
    pub store: Target,
    /// How.
    pub kind: Kind,
    /// The fields that differ, of a chunk that is there.
    pub fields: Vec<String>,
}

/// How a store can be wrong about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It should be there and is not.
    Missing,
    /// It is there and should not be.
    Orphaned,
    /// It is there otherwise than it should.
    Different,
    /// It is there in an older version.
    Stale,
}

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Orphaned => "orphaned",
            Self::Different => "different",
            Self::Stale => "stale",
        }
    }
}

impl Difference {
    pub(super) fn new(id: Uuid, store: Target, kind: Kind) -> Self {
        Self { id, store, kind, fields: Vec::new() }
    }
}
