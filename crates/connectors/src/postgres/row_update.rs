//! An update of some columns of a row, and of some keys of its metadata.

use serde_json::{Map, Value};

use super::cell::Cell;
use super::rest::KEY;
use super::row::RowImage;
use super::states::HeldRow;

/// An update of some columns of a row.
pub(super) struct Update {
    pub(super) row: RowImage,
    /// The columns, by their place in [`COLUMNS`](super::row::COLUMNS).
    pub(super) columns: Vec<usize>,
    /// Instead of the whole column `metadata`: the keys to remove, and the keys to set.
    pub(super) patch: Option<(Vec<String>, Value)>,
}

impl Update {
    /// The parameters: the id, the columns in their order, and the keys of `metadata` to remove.
    pub(super) fn into_cells(self, sparse_size: u32) -> Vec<Cell> {
        let Self { mut row, columns, patch } = self;
        let mut cells = vec![Cell::from(row.id)];
        let removed = patch.map(|(removed, set)| {
            row.metadata = Some(set);
            removed
        });
        let all = row.into_cells(sparse_size).into_iter().enumerate();
        cells.extend(all.filter(|(place, _)| columns.contains(place)).map(|(_, cell)| cell));
        cells.extend(removed.map(Cell::Texts));
        cells
    }
}

/// The keys of `metadata` to remove, and those to set. The service's own key is set if the row has lost it.
pub(super) fn patch(before: &RowImage, row: &RowImage, held: &HeldRow) -> (Vec<String>, Value) {
    let object = |row: &RowImage| match &row.metadata {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    let (old, mut new) = (object(before), object(row));
    let removed = old.keys().filter(|key| !new.contains_key(*key)).cloned().collect();
    new.retain(|key, value| old.get(key) != Some(value) || (key == KEY && held.lacks_rest));
    (removed, Value::Object(new))
}
