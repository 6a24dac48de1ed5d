//! What verification found, in the form in which it is printed.

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_sync_model::Target;
use serde::Serialize;
use uuid::Uuid;

use super::Findings;
use crate::ports::Counts;

/// The result of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing differs.
    pub consistent: bool,
    /// Ids in any store or living record.
    pub chunks: u64,
    /// Chunks equal in all stores, in per cent of them.
    pub consistency: f64,
    /// What each store has, and what is wrong with it.
    pub stores: BTreeMap<Target, StoreReport>,
    /// What differs, by id; as many as were asked for.
    pub differences: Vec<Difference>,
    /// How long it took.
    pub seconds: f64,
}

/// What one store has, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreReport {
    /// Chunks in it.
    pub count: u64,
    /// Chunks that it should have and has not.
    pub missing: u64,
    /// Chunks that it has and should not have.
    pub orphaned: u64,
    /// Chunks that it has otherwise than it should, under the right version.
    pub different: u64,
    /// Chunks that it has in an older version.
    pub stale: u64,
    /// Whatever else it has: entities, links, relations.
    #[serde(flatten)]
    pub others: BTreeMap<&'static str, u64>,
}

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

impl Report {
    pub(super) fn new(findings: &Findings, counts: BTreeMap<Target, Counts>, listed: usize, took: Duration) -> Self {
        let mut stores: BTreeMap<Target, StoreReport> = counts
            .into_iter()
            .map(|(target, counts)| {
                (target, StoreReport { count: counts.chunks, others: counts.others, ..StoreReport::default() })
            })
            .collect();
        for difference in findings.differing.values().flatten() {
            let store = stores.entry(difference.store).or_default();
            *match difference.kind {
                Kind::Missing => &mut store.missing,
                Kind::Orphaned => &mut store.orphaned,
                Kind::Different => &mut store.different,
                Kind::Stale => &mut store.stale,
            } += 1;
        }
        let equal = findings.chunks.saturating_sub(findings.differing.len() as u64);
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let consistency = if findings.chunks == 0 { 100.0 } else { equal as f64 * 100.0 / findings.chunks as f64 };
        Self {
            consistent: findings.differing.is_empty(),
            chunks: findings.chunks,
            consistency,
            stores,
            differences: findings.differing.values().flatten().take(listed).cloned().collect(),
            seconds: took.as_secs_f64(),
        }
    }
}
