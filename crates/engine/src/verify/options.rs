//! The options of a verification: its scope, its speed and its patience.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use uuid::Uuid;

use super::compare::ChunkView;

/// The options of a verification.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chunks read from a store at once.
    pub page: usize,
    /// The maximal number of chunks compared per second.
    pub rate: Option<u32>,
    /// How long a difference must stand still before it counts.
    pub still: Duration,
    /// How long to wait for events that are under way. After that, a difference that stands still counts nevertheless,
    /// and a chunk that does not stand still is given up.
    pub patience: Duration,
    /// The maximal number of differences that are listed; all are counted.
    pub listed: usize,
    /// The maximal number of findings that are kept for a repair; all are counted.
    pub kept: usize,
    /// Compare only chunks of this project, according to their rows.
    pub project: Option<Uuid>,
    /// Compare only chunks of this data set, according to their rows.
    pub dataset: Option<Uuid>,
    /// Compare only ids above this one: the continuation of a verification that was stopped.
    pub after: Option<Uuid>,
    /// A caller sets this to stop the verification, which then judges what it has found so far.
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
    /// Whether the options leave out chunks.
    pub(super) fn is_partial(&self) -> bool {
        self.project.is_some() || self.dataset.is_some() || self.after.is_some()
    }

    /// Whether the id counts: a store or a living record has it, and its row matches the filters.
    pub(super) fn concerns(&self, view: &ChunkView) -> bool {
        let organization = view.row.as_ref().and_then(|row| Some(&row.state.as_ref()?.chunk.organization));
        let of = |wanted: Option<Uuid>, is: Option<Uuid>| wanted.is_none() || wanted == is;
        view.is_there()
            && of(self.project, organization.and_then(|o| o.project_id))
            && of(self.dataset, organization.and_then(|o| o.dataset_id))
    }
}
