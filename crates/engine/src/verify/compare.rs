//! One id, and what is wrong with what stands under it.

use std::sync::Arc;

use chunk_sync_model::{Hash, SyncVersion, Target};
use uuid::Uuid;

use super::difference::{Difference, Kind};
use crate::pipeline::apply::external_change::digest;
use crate::ports::{Row, Seen, Store};

/// One id, and what each store has under it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: Uuid,
    pub(super) row: Option<Row>,
    /// In the order of the stores.
    pub(super) seen: Vec<Option<Seen>>,
}

/// A chunk that is not everywhere as it should be: what was seen of it, and what is wrong. Equal findings mean that it
/// stood still in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which chunk.
    pub id: Uuid,
    /// The digest of the row; `None` where there is none.
    pub row: Option<Hash>,
    /// Whether the record says that the chunk is there; `None` without a record.
    pub lives: Option<bool>,
    /// The version of the record; zero without one.
    pub version: SyncVersion,
    /// The version that each store shows that has the chunk.
    pub shown: Vec<(Target, SyncVersion)>,
    /// What is wrong; never empty.
    pub differences: Vec<Difference>,
}

impl Place {
    /// Whether the id stands in any store or living record: a mere tombstone does not count.
    pub(super) fn is_there(&self) -> bool {
        let row = self.row.as_ref().is_some_and(|row| row.state.is_some() || row.lives == Some(true));
        row || self.seen.iter().any(Option::is_some)
    }

    /// What is wrong here, if anything is.
    pub(super) fn finding(&self, stores: &[Arc<dyn Store>]) -> Option<Finding> {
        let row = digest(self.row.as_ref().and_then(|row| row.state.as_deref()));
        let differences = if row.is_some() { self.with_row(stores, row) } else { self.without_row(stores) };
        let shown = stores.iter().zip(&self.seen);
        (!differences.is_empty()).then(|| Finding {
            id: self.id,
            row,
            lives: self.row.as_ref().and_then(|row| row.lives),
            version: self.row.as_ref().map(|row| row.version).unwrap_or_default(),
            shown: shown.filter_map(|(store, seen)| Some((store.target(), seen.as_ref()?.version))).collect(),
            differences,
        })
    }

    fn with_row(&self, stores: &[Arc<dyn Store>], digest: Option<Hash>) -> Vec<Difference> {
        let Some((row, state)) = self.row.as_ref().and_then(|row| Some((row, row.state.as_ref()?))) else {
            return Vec::new();
        };
        // A row that has a record and is not the one last written or seen: somebody changed it, and nobody carried that.
        let changed = (row.lives.is_some() && row.seen != digest).then(|| Difference {
            fields: vec!["row".to_owned()],
            ..Difference::new(self.id, Target::Postgres, Kind::Different)
        });
        let others = stores.iter().zip(&self.seen).filter_map(|(store, seen)| {
            let Some(seen) = seen else {
                return Some(Difference::new(self.id, store.target(), Kind::Missing));
            };
            let mut fields = seen.fingerprint.differing(&store.expect(state));
            if row.lives == Some(true) && seen.version > row.version {
                // It would take none of the next changes for newer than what it has.
                fields.push("sync_version".to_owned());
            }
            let kind = if seen.version < row.version { Kind::Stale } else { Kind::Different };
            (!fields.is_empty()).then(|| Difference { fields, ..Difference::new(self.id, store.target(), kind) })
        });
        changed.into_iter().chain(others).collect()
    }

    fn without_row(&self, stores: &[Arc<dyn Store>]) -> Vec<Difference> {
        let lives = self.row.as_ref().is_some_and(|row| row.lives == Some(true));
        let row = lives.then(|| Difference::new(self.id, Target::Postgres, Kind::Missing));
        // Of a chunk whose row is lost it is the row that is wrong, not what the other stores still have.
        let others = stores.iter().zip(&self.seen).filter(|(_, seen)| seen.is_some() && !lives);
        row.into_iter()
            .chain(others.map(|(store, _)| Difference::new(self.id, store.target(), Kind::Orphaned)))
            .collect()
    }
}
