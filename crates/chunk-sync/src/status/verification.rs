//! The last verifications of this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use chunk_sync_engine::scrub::Scrubbed;
use chunk_sync_engine::verify::{Difference, StoreReport};
use chunk_sync_model::{Target, Time};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::now;

/// How many verifications are kept.
const VERIFICATIONS: usize = 200;

/// The result of a verification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// When the verification ended.
    pub at: Time,
    /// Whether no chunk differed.
    pub consistent: bool,
    /// Number of distinct ids in any store or live record.
    pub chunks: u64,
    /// Percentage of `chunks` that are equal in all stores, 0 to 100.
    pub consistency: f64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Chunks that differed and were repaired.
    #[serde(default)]
    pub repaired: u64,
    /// Chunks that differ and need a decision of the operator.
    #[serde(default)]
    pub undecided: u64,
    /// Counts per store.
    pub stores: BTreeMap<Target, Verdict>,
    /// Some of the differences, in order of id; empty for every verification but the last.
    #[serde(default)]
    pub differences: Vec<Differing>,
}

impl Verification {
    fn of(scrubbed: &Scrubbed, at: Time) -> Self {
        let report = &scrubbed.report;
        Self {
            at,
            consistent: report.consistent,
            chunks: report.chunks,
            consistency: report.consistency,
            seconds: report.seconds,
            repaired: scrubbed.repaired,
            undecided: scrubbed.undecided,
            stores: report.stores.iter().map(|(target, store)| (*target, Verdict::of(store, report.chunks))).collect(),
            differences: report.differences.iter().map(Differing::of).collect(),
        }
    }
}

/// What verification found in one store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Chunks in the store.
    pub count: u64,
    /// Chunks that the store lacks.
    pub missing: u64,
    /// Chunks that the store should not hold.
    pub orphaned: u64,
    /// Chunks whose content differs from the row.
    pub different: u64,
    /// Chunks that the store holds in an older version.
    pub stale: u64,
    /// Rows that are longer than the limit.
    #[serde(default)]
    pub oversize: u64,
    /// Percentage of the chunks that are as they should be, 0 to 100.
    #[serde(default)]
    pub consistency: f64,
}

impl Verdict {
    fn of(store: &StoreReport, chunks: u64) -> Self {
        Self {
            count: store.count,
            missing: store.missing,
            orphaned: store.orphaned,
            different: store.different,
            stale: store.stale,
            oversize: store.oversize,
            consistency: store.ratio(chunks) * 100.0,
        }
    }
}

/// A chunk that one store does not hold as it should.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Differing {
    /// The chunk.
    pub id: Uuid,
    /// The store.
    pub store: Target,
    /// `missing`, `orphaned`, `different`, `stale` or `oversize`.
    pub kind: String,
    /// The fields that differ, if the store holds the chunk.
    pub fields: Vec<String>,
}

impl Differing {
    fn of(difference: &Difference) -> Self {
        let Difference { id, store, kind, fields } = difference;
        Self { id: *id, store: *store, kind: kind.as_str().to_owned(), fields: fields.clone() }
    }
}

/// The last verifications of this process, oldest first, shared between the scrubber, which writes it, and the status, which reads it.
#[derive(Clone, Debug, Default)]
pub struct LastVerification(Arc<Mutex<VecDeque<Verification>>>);

impl LastVerification {
    /// Stores a verification that has just ended.
    pub fn note(&self, scrubbed: &Scrubbed) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= VERIFICATIONS {
            kept.pop_front();
        }
        if let Some(previous) = kept.back_mut() {
            previous.differences.clear();
        }
        kept.push_back(Verification::of(scrubbed, now()));
    }

    pub(super) fn get(&self) -> Option<Verification> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// The last verifications, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Verification> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
