//! The fence of a merge, checked inside the transaction of the merge.
//!
//! A merge takes a shared advisory lock and then reads the version of the set of stores; a process that records another
//! set takes the lock exclusively. So no merge of the old set commits after the new set is recorded, and no merge waits
//! for another.

use chunk_sync_engine::ports::Fence;
use deadpool_postgres::GenericClient;
use futures::future::try_join;
use tokio_postgres::Row;

use super::fault::Error;
use super::flight::Flight;

const SHARED: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended('chunk_sync: set of stores', 0))";

/// Adds what [`check`] asks to a flight, and returns the place of the version; `None` if the fence names none.
pub(super) fn ask(flight: &mut Flight, fence: &Fence) -> Option<usize> {
    fence.stores?;
    flight.add(SHARED, Vec::new());
    Some(flight.add(VERSION, Vec::new()))
}

/// Fails when the fence names another version of the set of stores than the recorded one, which `rows` have.
pub(super) fn compare(rows: &[Row], fence: &Fence) -> Result<(), Error> {
    let recorded = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?.map(i64::unsigned_abs);
    fence.check_stores(recorded, "postgres: merge").map_err(Error::Fenced)
}

/// Reads the recorded version of the set of stores.
pub(super) const VERSION: &str = "SELECT version FROM chunk_sync.installation";

/// Fails when the fence names another version of the set of stores than the recorded one. Holds the shared lock until
/// the transaction ends.
pub(super) async fn check(transaction: &impl GenericClient, fence: &Fence) -> Result<(), Error> {
    if fence.stores.is_none() {
        return Ok(());
    }
    let (lock, version) = try_join(transaction.prepare_cached(SHARED), transaction.prepare_cached(VERSION)).await?;
    // Pipelined: the server runs the second after the first, on a snapshot of its own.
    let (_, rows) = try_join(transaction.query(&lock, &[]), transaction.query(&version, &[])).await?;
    compare(&rows, fence)
}
