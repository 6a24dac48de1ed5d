//! Values as the statements have them.

use chunk_sync_model::SyncVersion;
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::fault::Error;

pub(super) fn version(number: i64) -> SyncVersion {
    SyncVersion::new(number.unsigned_abs())
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The next ids in ascending order as bytes, from the first one above `after`, at most `limit`. `from` is a query with one
/// column `id` and no condition.
pub(super) fn ids_above(
    transaction: &Transaction<'_>,
    from: &str,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Uuid>, Error> {
    // No bytes are below the bytes of every id.
    let bound = after.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
    let mut statement = transaction.prepare_cached(&format!("{from} WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    let ids = statement.query_map(params![bound, limit_of(limit)], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}
