//! What a merge depends on beside its input, and what follows from it.

use chunk_sync_model::{SyncVersion, Target, Writer};
use uuid::Uuid;

use crate::pipeline::apply::conflict_notes::ConflictCount;
use crate::pipeline::apply::direct_write::StoreSnapshots;
use crate::pipeline::apply::external_change::Written;
use crate::ports::Write;
use crate::runtime::settings::Settings;

/// What a merge of a batch depends on, beside its operations and what the transaction reads.
#[derive(Clone, Copy)]
pub(crate) struct MergeContext<'a> {
    /// When a row was written, if no captured event states it.
    pub(crate) now: Written,
    /// An earlier attempt failed, and may have been committed nevertheless.
    pub(crate) again: bool,
    /// The strategies for conflicts and the rules for direct writes.
    pub(crate) settings: &'a Settings,
    /// The documents that the stores hold.
    pub(crate) snapshots: &'a StoreSnapshots,
    /// The stores whose writes the transaction puts into the outbox.
    pub(crate) outbox: &'a [Target],
    /// The least sync version that is assigned.
    pub(crate) floor: SyncVersion,
}

/// What follows from a merge once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the other stores are to hold, one write per chunk.
    pub(crate) writes: Vec<Write>,
    /// The chunks whose rows the merge changed.
    pub(crate) rows: Vec<Uuid>,
    /// The conflicts that the operations detected; the conflicts themselves are on record with the rows.
    pub(crate) conflicts: Vec<ConflictCount>,
    /// Operations that changed nothing because they came late or once more.
    pub(crate) repeated: u64,
    /// The stores that held a direct write, once per chunk and store.
    pub(crate) direct: Vec<Writer>,
}

impl Outcome {
    pub(crate) fn join(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.rows.extend(other.rows);
        self.conflicts.extend(other.conflicts);
        self.repeated += other.repeated;
        self.direct.extend(other.direct);
    }
}
