//! The fence of a merge: what it compares, in its own transaction.
//!
//! A merge takes an advisory lock shared and then reads the version of the set of stores; a process that records
//! another set takes it exclusively. So no merge of the old set commits after the new set is recorded, and no merge
//! waits for another.

use chunk_sync_engine::ports::Fence;
use deadpool_postgres::Transaction;
use futures::future::try_join;

use super::fault::Error;

const SHARED: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended('chunk_sync: set of stores', 0))";

/// Reads the version of the set of stores that is recorded.
pub(super) const VERSION: &str = "SELECT version FROM chunk_sync.installation";

/// Compares the fence of a merge with what is recorded, under the lock that a change of it would need.
pub(super) async fn check(transaction: &Transaction<'_>, fence: &Fence) -> Result<(), Error> {
    if fence.stores.is_none() {
        return Ok(());
    }
    let (lock, version) = try_join(transaction.prepare_cached(SHARED), transaction.prepare_cached(VERSION)).await?;
    // Sent at once; the second runs after the first, on a snapshot of its own.
    let (_, rows) = try_join(transaction.query(&lock, &[]), transaction.query(&version, &[])).await?;
    let recorded = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?.map(i64::unsigned_abs);
    fence.check_stores(recorded, "postgres: merge").map_err(Error::Fenced)
}
