//! What the oracle knows about a restore of PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_sync_engine::ports::{EntryId, Write};
use chunk_sync_model::{State, SyncVersion, Target};
use uuid::Uuid;

use super::Oracle;

/// What the oracle knows about a restore.
#[derive(Default)]
pub(in crate::simulation) struct Restored {
    /// Until the adoption, the states that only the stores have, by their versions.
    only_there: BTreeMap<(Target, Uuid), SyncVersion>,
    /// The state that was written under each version.
    written: BTreeMap<(Uuid, SyncVersion), Option<Arc<State>>>,
    /// The operator has adopted the restored state.
    is_adopted: bool,
}

impl Restored {
    /// Notes a write to a store, which then holds the chunk in the version `after`; an error if it breaks a promise.
    pub(super) fn wrote(&mut self, target: Target, write: &Write, after: Option<SyncVersion>) -> Result<(), String> {
        let only = self.only_there.get(&(target, write.id));
        if only.is_some_and(|only| after != Some(*only)) {
            return Err(format!("{target} lost a state of {} that only it had", write.id));
        }
        let before = self.written.insert((write.id, write.version), write.state.clone());
        match before.filter(|before| self.is_adopted && *before != write.state) {
            Some(_) => Err(format!("version {} of {} is used for two states", write.version, write.id)),
            None => Ok(()),
        }
    }
}

impl Oracle {
    /// The last entry that was ever on the bus.
    pub(in crate::simulation) fn last_entry(&self) -> Option<EntryId> {
        self.known().stream.last_key_value().map(|(id, _)| *id)
    }

    /// Notes that a restore has lost everything after this entry.
    pub(in crate::simulation) fn restored(
        &self,
        last: Option<EntryId>,
        only_there: BTreeMap<(Target, Uuid), SyncVersion>,
    ) {
        let mut known = self.known();
        let lost: BTreeSet<Uuid> =
            known.stream.iter().filter(|(id, _)| Some(**id) > last).map(|(_, event)| event.event_id).collect();
        known.stream.retain(|id, _| Some(*id) <= last);
        known.acknowledged.retain(|event| !lost.contains(event));
        known.recorded.clear();
        known.restored.only_there = only_there;
    }

    /// Notes that the operator has adopted the restored state.
    pub(in crate::simulation) fn adopted(&self) {
        let mut known = self.known();
        known.restored.only_there.clear();
        known.restored.is_adopted = true;
    }
}
