//! The counts and findings of a verification so far.

use std::collections::BTreeMap;

use chunk_sync_model::Target;
use uuid::Uuid;

use super::compare::{ChunkView, Finding};
use super::recheck::Rechecked;
use crate::ports::{Counts, Ports};

/// The counts and findings so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The last id that was compared, if the verification was stopped there.
    pub(super) stopped_after: Option<Uuid>,
    /// The number of ids in any store or living record.
    pub(super) chunks: u64,
    /// The number of chunks that changed between any two readings.
    pub(super) unsettled: u64,
    /// Rows whose embedding was made for an older content.
    pub(super) stale_embeddings: u64,
    pub(super) counts: BTreeMap<Target, Counts>,
    pub(super) findings: Vec<Finding>,
}

impl Tally {
    pub(super) fn count(&mut self, view: &ChunkView, ports: &Ports) {
        self.chunks += 1;
        let state = view.row.as_ref().and_then(|row| row.state.as_ref());
        self.stale_embeddings += u64::from(state.is_some_and(|state| state.embedding_stale));
        let oversize = view.row.as_ref().is_some_and(|row| row.oversize);
        let row = (Target::Postgres, state.is_some() || oversize);
        let others = ports.stores.iter().zip(&view.seen).map(|(store, seen)| (store.target(), seen.is_some()));
        for (target, there) in std::iter::once(row).chain(others) {
            self.counts.entry(target).or_default().chunks += u64::from(there);
        }
    }

    pub(super) fn judge(&mut self, rechecked: Rechecked) {
        self.chunks -= rechecked.vanished;
        self.unsettled += rechecked.unsettled;
        self.findings.extend(rechecked.findings);
    }
}
