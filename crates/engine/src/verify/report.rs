//! What verification found, in the form in which it is printed.

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
    /// Nothing differs.
    pub consistent: bool,
    /// Ids in any store or living record.
    pub chunks: u64,
    /// Chunks equal in all stores, in per cent of those that stood still.
    pub consistency: f64,
    /// What each store has, and what is wrong with it.
    pub stores: BTreeMap<Target, StoreReport>,
    /// What differs, by id; as many as were asked for.
    pub differences: Vec<Difference>,
    /// Chunks that changed whenever they were looked at: nobody can say whether they differ.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsettled: u64,
    /// The last id that was compared, where it was told to stop there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<Uuid>,
    /// How long it took.
    pub seconds: f64,
    /// Rows with an embedding that was made for an older content: they wait for whoever embeds.
    #[serde(skip)]
    pub stale_embeddings: u64,
    /// Chunks that differ anywhere.
    #[serde(skip)]
    pub differing: u64,
    /// What was found of them, for a repair; as many as were to be kept.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde passes")]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
        }
    }

    /// How much is wrong with it, by kind.
    #[must_use]
    pub fn kinds(&self) -> [(Kind, u64); 4] {
        [
            (Kind::Missing, self.missing),
            (Kind::Orphaned, self.orphaned),
            (Kind::Different, self.different),
            (Kind::Stale, self.stale),
        ]
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.kinds().iter().map(|(_, found)| found).sum()
    }

    /// The share of its chunks that are as they should be, of `chunks` in all.
    #[must_use]
    pub fn ratio(&self, chunks: u64) -> f64 {
        share(chunks.saturating_sub(self.wrong()), chunks)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
