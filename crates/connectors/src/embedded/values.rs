//! Values as the statements have them.

use chunk_sync_model::SyncVersion;
use uuid::Uuid;

pub(super) fn version(number: i64) -> SyncVersion {
    SyncVersion::new(number.unsigned_abs())
}

/// The exclusive lower bound of a page as bytes; empty, and so below every id, for the first page.
pub(super) fn above(after: Option<Uuid>) -> Vec<u8> {
    after.map_or_else(Vec::new, |id| id.as_bytes().to_vec())
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
