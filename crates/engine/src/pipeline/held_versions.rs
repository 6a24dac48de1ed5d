//! The newest version of each chunk that a store has shown in this term: it answered the write, or a look at the watch
//! list found it there. If the store shows an older version later, a late write has replaced a newer one: the version of
//! a write keeps older ones out only where the server compares versions itself.
//!
//! Kept in memory only, and from one look to the next only for chunks on the watch list. A chunk gets onto the list
//! before its next write is answered, so what is noted here between two looks suffices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chunk_sync_model::SyncVersion;
use uuid::Uuid;

/// The most chunks that are noted between two looks. A late write to any further one is left to the next look, which
/// notes it if it is still as it should be, and to the scrubber.
const MOST: usize = 100_000;

/// The versions that one store has shown. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldVersions(Arc<Mutex<Versions>>);

#[derive(Debug, Default)]
struct Versions {
    /// Since the last look began.
    new: BTreeMap<Uuid, SyncVersion>,
    /// Before it.
    listed: BTreeMap<Uuid, SyncVersion>,
}

impl HeldVersions {
    /// The store holds these versions, or newer ones.
    pub(crate) fn note(&self, held: impl IntoIterator<Item = (Uuid, SyncVersion)>) {
        let mut versions = self.lock();
        for (id, version) in held {
            if versions.new.len() < MOST || versions.new.contains_key(&id) {
                raise(&mut versions.new, id, version);
            }
        }
    }

    /// A look begins: what is noted from now on is kept until the next one.
    pub(crate) fn look_begins(&self) {
        let mut versions = self.lock();
        for (id, version) in std::mem::take(&mut versions.new) {
            raise(&mut versions.listed, id, version);
        }
    }

    /// A look has ended, and this is what is known of the listed chunks: all others that were known before are forgotten.
    pub(crate) fn look_ended(&self, listed: BTreeMap<Uuid, SyncVersion>) {
        self.lock().listed = listed;
    }

    /// What the store has shown of these chunks, in their order.
    pub(crate) fn of(&self, ids: &[Uuid]) -> Vec<Option<SyncVersion>> {
        let versions = self.lock();
        ids.iter().map(|id| versions.new.get(id).max(versions.listed.get(id)).copied()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An older write is answered as well, because the store has a newer state.
fn raise(versions: &mut BTreeMap<Uuid, SyncVersion>, id: Uuid, version: SyncVersion) {
    let known = versions.entry(id).or_default();
    *known = version.max(*known);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_forgotten_at_the_second_look() {
        let (held, version) = (HeldVersions::default(), SyncVersion::new);
        let [listed, other, late] = [1, 2, 3].map(Uuid::from_u128);
        held.note([(listed, version(7)), (other, version(7)), (listed, version(5))]);
        held.look_begins();
        held.note([(late, version(9))]);
        assert_eq!(held.of(&[listed, other, late]), [Some(version(7)), Some(version(7)), Some(version(9))]);
        held.look_ended(BTreeMap::from([(listed, version(7))]));
        assert_eq!(held.of(&[listed, other, late]), [Some(version(7)), None, Some(version(9))]);
        held.look_begins();
        held.look_ended(BTreeMap::from([(listed, version(7))]));
        assert_eq!(held.of(&[listed, late]), [Some(version(7)), None]);
    }

    #[test]
    fn a_bounded_number_is_noted_between_two_looks() {
        let held = HeldVersions::default();
        let all = |version| (0..=MOST as u128).map(move |id| (Uuid::from_u128(id), SyncVersion::new(version)));
        held.note(all(1));
        held.note(all(2));
        let last = [0, MOST as u128].map(Uuid::from_u128);
        assert_eq!(held.of(&last), [Some(SyncVersion::new(2)), None]);
    }
}
