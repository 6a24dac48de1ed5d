//! The result of a verification, in the form in which it is printed.

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_sync_model::Target;
use serde::Serialize;
use uuid::Uuid;

use super::compare::Finding;
use super::difference::{Difference, Kind};
use super::options::Options;
use super::tally::Tally;

/// The result of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing differs.
    pub consistent: bool,
    /// The number of ids in any store or living record.
    pub chunks: u64,
    /// Chunks that are equal in all stores, in per cent of those that stood still.
    pub consistency: f64,
    /// The counts and differences of each store.
    pub stores: BTreeMap<Target, StoreReport>,
    /// The differences in order of id; as many as were requested.
    pub differences: Vec<Difference>,
    /// Chunks that changed between any two readings: whether they differ is unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsettled: u64,
    /// The last id that was compared, if the verification was stopped there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<Uuid>,
    /// The duration in seconds.
    pub seconds: f64,
    /// Rows whose embedding was made for an older content: they wait for a new embedding.
    #[serde(skip)]
    pub stale_embeddings: u64,
    /// The number of chunks that differ in any store.
    #[serde(skip)]
    pub differing: u64,
    /// The findings for a repair; as many as were requested.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde passes")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The counts and differences of one store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreReport {
    /// Chunks in the store.
    pub count: u64,
    /// Chunks that the store lacks.
    pub missing: u64,
    /// Chunks that the store should not hold.
    pub orphaned: u64,
    /// Chunks with other content under the right version.
    pub different: u64,
    /// Chunks in an older version.
    pub stale: u64,
    /// Rows with more than `limits.row_max_bytes`.
    #[serde(skip_serializing_if = "is_zero")]
    pub oversize: u64,
    /// The numbers of other objects: entities, links, relations.
    #[serde(flatten)]
    pub others: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(tally: Tally, options: &Options, took: Duration) -> Self {
        let mut stores: BTreeMap<Target, StoreReport> = tally
            .counts
            .into_iter()
            .map(|(target, counts)| {
                (target, StoreReport { count: counts.chunks, others: counts.others, ..StoreReport::default() })
            })
            .collect();
        let mut findings = tally.findings;
        findings.sort_unstable_by_key(|finding| finding.id);
        for difference in findings.iter().flat_map(|finding| &finding.differences) {
            *stores.entry(difference.store).or_default().of(difference.kind) += 1;
        }
        let (chunks, differing) = (tally.chunks, findings.len() as u64);
        let judged = chunks.saturating_sub(tally.unsettled);
        let differences =
            findings.iter().flat_map(|finding| &finding.differences).take(options.listed).cloned().collect();
        findings.truncate(options.kept);
        Self {
            consistent: differing == 0,
            chunks,
            consistency: share(judged.saturating_sub(differing), judged) * 100.0,
            stores,
            differences,
            unsettled: tally.unsettled,
            stopped_after: tally.stopped_after,
            seconds: took.as_secs_f64(),
            stale_embeddings: tally.stale_embeddings,
            differing,
            findings,
        }
    }
}

impl StoreReport {
    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Missing => &mut self.missing,
            Kind::Orphaned => &mut self.orphaned,
            Kind::Different => &mut self.different,
            Kind::Stale => &mut self.stale,
            Kind::Oversize => &mut self.oversize,
        }
    }

    /// The numbers of differences by kind.
    #[must_use]
    pub fn kinds(&self) -> [(Kind, u64); 5] {
        [
            (Kind::Missing, self.missing),
            (Kind::Orphaned, self.orphaned),
            (Kind::Different, self.different),
            (Kind::Stale, self.stale),
            (Kind::Oversize, self.oversize),
        ]
    }

    /// The number of all differences.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.kinds().iter().map(|(_, found)| found).sum()
    }

    /// The share of the `chunks` chunks that are as they should be, from 0 to 1.
    #[must_use]
    pub fn ratio(&self, chunks: u64) -> f64 {
        share(chunks.saturating_sub(self.wrong()), chunks)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
