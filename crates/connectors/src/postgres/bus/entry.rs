//! Entries by their numbers.

use chunk_sync_engine::ports::EntryId;

/// Deletes entries by their numbers: they are finished.
pub(in crate::postgres) const REMOVE: &str = "DELETE FROM chunk_sync.bus WHERE id = ANY($1)";

/// The number of an entry of this bus; `None` for an id of another bus.
pub(in crate::postgres) fn number(id: EntryId) -> Option<i64> {
    i64::try_from(id.sequence).ok().filter(|_| id.millis == 0)
}

pub(in crate::postgres) fn numbers(ids: &[EntryId]) -> Vec<i64> {
    ids.iter().filter_map(|id| number(*id)).collect()
}

pub(super) fn entry_id(number: i64) -> EntryId {
    EntryId { millis: 0, sequence: number.unsigned_abs() }
}
