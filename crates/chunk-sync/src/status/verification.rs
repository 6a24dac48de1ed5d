//! The last verifications of this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use chunk_sync_engine::scrub::Scrubbed;
use chunk_sync_model::{Target, Time};
use serde::{Deserialize, Serialize};

use super::now;

/// How many verifications are kept.
const VERIFICATIONS: usize = 200;

/// The result of a verification, without the list of differences.
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
}

impl Verification {
    fn of(scrubbed: &Scrubbed, at: Time) -> Self {
        let report = &scrubbed.report;
        let verdict = |store: &chunk_sync_engine::verify::StoreReport| Verdict {
            count: store.count,
            missing: store.missing,
            orphaned: store.orphaned,
            different: store.different,
            stale: store.stale,
        };
        Self {
            at,
            consistent: report.consistent,
            chunks: report.chunks,
            consistency: report.consistency,
            seconds: report.seconds,
            repaired: scrubbed.repaired,
            undecided: scrubbed.undecided,
            stores: report.stores.iter().map(|(target, store)| (*target, verdict(store))).collect(),
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
