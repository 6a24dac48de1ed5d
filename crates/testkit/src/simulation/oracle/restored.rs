//! What the oracle knows about a restore of PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_sync_engine::ports::{EntryId, Records, Write};
use chunk_sync_model::{State, SyncVersion, Target};
use uuid::Uuid;

use super::{Expected, Oracle, unstamped};

/// What the oracle knows about a restore.
#[derive(Default)]
pub(in crate::simulation) struct Restored {
    /// Until the adoption, the states that only the stores have, by their versions.
    only_there: BTreeMap<(Target, Uuid), SyncVersion>,
    /// The state that was written under each version.
    written: BTreeMap<(Uuid, SyncVersion), Option<Arc<State>>>,
    /// The operator has adopted the restored state.
    is_adopted: bool,
    /// With a trigger, records and states of the backup, and the last entry that was merged into them. A record notes how
    /// a trigger stored a value that the row showed, and which values it showed depends on how events were merged
    /// together; the records of the backup are therefore not those of a merge of one event after the other.
    base: (BTreeMap<Uuid, Expected>, Option<EntryId>),
}

impl Restored {
    /// What the chunks are before the events after that entry are merged.
    pub(super) fn base(&self) -> (BTreeMap<Uuid, Expected>, Option<EntryId>) {
        self.base.clone()
    }

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

    /// Notes that a restore of this backup has lost everything after this entry.
    pub(in crate::simulation) async fn restored(
        &self,
        (backup, last): (&dyn Records, Option<EntryId>),
        only_there: BTreeMap<(Target, Uuid), SyncVersion>,
    ) {
        let ids: Vec<Uuid> = if self.triggers { self.expected().into_keys().collect() } else { Vec::new() };
        let held = ids.iter().zip(backup.current(&ids).await.unwrap());
        let base = held.filter_map(|(id, held)| Some((*id, (unstamped(held.record?), held.state)))).collect();
        let mut known = self.known();
        let lost: BTreeSet<Uuid> =
            known.stream.iter().filter(|(id, _)| Some(**id) > last).map(|(_, event)| event.event_id).collect();
        known.stream.retain(|id, _| Some(*id) <= last);
        known.acknowledged.retain(|event| !lost.contains(event));
        known.recorded.clear();
        known.restored.only_there = only_there;
        known.restored.base = (base, last.filter(|_| self.triggers));
    }

    /// Notes that the operator has adopted the restored state.
    pub(in crate::simulation) fn adopted(&self) {
        let mut known = self.known();
        known.restored.only_there.clear();
        known.restored.is_adopted = true;
    }
}
