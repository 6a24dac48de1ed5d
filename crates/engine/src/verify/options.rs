//! What a verification covers, how fast and how patient it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use uuid::Uuid;

use super::compare::Place;

/// How to verify.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chunks read from a store at once.
    pub page: usize,
    /// Chunks compared a second, at most.
    pub rate: Option<u32>,
    /// How long a difference must stand still before it counts.
    pub still: Duration,
    /// How long to wait for what is under way before a difference that stands still counts nevertheless, and before a chunk
    /// that does not stand still is given up.
    pub patience: Duration,
    /// Differences listed, at most; all are counted.
    pub listed: usize,
    /// Findings kept for a repair, at most; all are counted.
    pub kept: usize,
    /// Only chunks of this project, by their rows.
    pub project: Option<Uuid>,
    /// Only chunks of this data set, by their rows.
    pub dataset: Option<Uuid>,
    /// Only chunks above this id: where a verification that was stopped goes on.
    pub after: Option<Uuid>,
    /// Set by whoever wants it to stop where it is, and to judge what it found so far.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page: 512,
            rate: None,
            still: Duration::from_millis(700),
            patience: Duration::from_secs(15),
            listed: 10_000,
            kept: usize::MAX,
            project: None,
            dataset: None,
            after: None,
            stop: Arc::default(),
        }
    }
}

impl Options {
    /// Whether chunks are left out.
    pub(super) fn is_partial(&self) -> bool {
        self.project.is_some() || self.dataset.is_some() || self.after.is_some()
    }

    /// Whether the place counts: it stands in a store or living record, and its row is among those asked for.
    pub(super) fn concerns(&self, place: &Place) -> bool {
        let organization = place.row.as_ref().and_then(|row| Some(&row.state.as_ref()?.chunk.organization));
        let of = |wanted: Option<Uuid>, is: Option<Uuid>| wanted.is_none() || wanted == is;
        place.is_there()
            && of(self.project, organization.and_then(|o| o.project_id))
            && of(self.dataset, organization.and_then(|o| o.dataset_id))
    }
}
