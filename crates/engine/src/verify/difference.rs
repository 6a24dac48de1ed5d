//! The ways in which one store can differ in one chunk.

use chunk_sync_model::Target;
use serde::Serialize;
use uuid::Uuid;

/// One chunk that one store does not hold as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The chunk.
    pub id: Uuid,
    /// The store that differs.
    pub store: Target,
    /// The kind of the difference.
    pub kind: Kind,
    /// The fields that differ, if the store holds the chunk.
    pub fields: Vec<String>,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The store should hold the chunk and does not.
    Missing,
    /// The store holds the chunk and should not.
    Orphaned,
    /// The store holds the chunk with other content.
    Different,
    /// The store holds an older version of the chunk.
    Stale,
    /// The row has more than `limits.row_max_bytes`: it is neither read nor carried.
    Oversize,
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
            Self::Oversize => "oversize",
        }
    }
}

impl Difference {
    pub(super) fn new(id: Uuid, store: Target, kind: Kind) -> Self {
        Self { id, store, kind, fields: Vec::new() }
    }
}
