//! Compares the content of all stores under one id.

use std::sync::Arc;

use chunk_sync_model::{Hash, SyncVersion, Target};
use uuid::Uuid;

use super::difference::{Difference, Kind};
use crate::pipeline::apply::external_change::digest;
use crate::ports::{Projection, Row, StoredDocument};

/// One id, and what each store holds under it.
#[derive(Debug)]
pub(super) struct ChunkView {
    pub(super) id: Uuid,
    pub(super) row: Option<Row>,
    /// In the order of the stores.
    pub(super) seen: Vec<Option<StoredDocument>>,
}

/// A chunk that differs: what the stores showed, and what is wrong. Two equal findings mean that the chunk stood still
/// in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The chunk.
    pub id: Uuid,
    /// The digest of the row; `None` if there is no row.
    pub row: Option<Hash>,
    /// Whether the record states that the chunk exists; `None` without a record.
    pub lives: Option<bool>,
    /// The version of the record; zero without one.
    pub version: SyncVersion,
    /// The version in each store that holds the chunk.
    pub shown: Vec<(Target, SyncVersion)>,
    /// The differences; never empty.
    pub differences: Vec<Difference>,
}

impl ChunkView {
    /// Whether a store or a living record has the id; a tombstone alone does not count.
    pub(super) fn is_there(&self) -> bool {
        let row = self.row.as_ref().is_some_and(|row| row.state.is_some() || row.oversize || row.lives == Some(true));
        row || self.seen.iter().any(Option::is_some)
    }

    /// The finding, if anything differs.
    pub(super) fn finding(&self, stores: &[Arc<dyn Projection>]) -> Option<Finding> {
        let row = digest(self.row.as_ref().and_then(|row| row.state.as_deref()));
        let differences = match row {
            // It was not read, and so it is not compared.
            None if self.row.as_ref().is_some_and(|row| row.oversize) => {
                vec![Difference::new(self.id, Target::Postgres, Kind::Oversize)]
            }
            None => self.without_row(stores),
            row => self.with_row(stores, row),
        };
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

    fn with_row(&self, stores: &[Arc<dyn Projection>], digest: Option<Hash>) -> Vec<Difference> {
        let Some((row, state)) = self.row.as_ref().and_then(|row| Some((row, row.state.as_ref()?))) else {
            return Vec::new();
        };
        // A row with a record that is not as it was last written or seen: another program changed it, and that was not
        // carried.
        let changed = (row.lives.is_some() && row.seen != digest).then(|| Difference {
            fields: vec!["row".to_owned()],
            ..Difference::new(self.id, Target::Postgres, Kind::Different)
        });
        let others = stores.iter().zip(&self.seen).filter_map(|(store, seen)| {
            let Some(seen) = seen else {
                return Some(Difference::new(self.id, store.target(), Kind::Missing));
            };
            let mut fields = seen.document.differing(&store.expect(state));
            if row.lives == Some(true) && seen.version > row.version {
                // The store would reject the next changes as older than what it holds.
                fields.push("sync_version".to_owned());
            }
            let kind = if seen.version < row.version { Kind::Stale } else { Kind::Different };
            (!fields.is_empty()).then(|| Difference { fields, ..Difference::new(self.id, store.target(), kind) })
        });
        changed.into_iter().chain(others).collect()
    }

    fn without_row(&self, stores: &[Arc<dyn Projection>]) -> Vec<Difference> {
        let lives = self.row.as_ref().is_some_and(|row| row.lives == Some(true));
        let row = lives.then(|| Difference::new(self.id, Target::Postgres, Kind::Missing));
        // If the row is lost, the row is what is wrong, not the content of the other stores.
        let others = stores.iter().zip(&self.seen).filter(|(_, seen)| seen.is_some() && !lives);
        row.into_iter()
            .chain(others.map(|(store, _)| Difference::new(self.id, store.target(), Kind::Orphaned)))
            .collect()
    }
}
