//! The fence of a merge in SQLite, checked inside the transaction of the merge.

use chunk_sync_engine::ports::Fence;
use rusqlite::{OptionalExtension, Transaction};

use super::fault::Error;

/// The recorded version of the set of stores; `None` when no set is recorded.
pub(super) fn version(transaction: &Transaction<'_>) -> Result<Option<u64>, Error> {
    let mut statement = transaction.prepare_cached("SELECT version FROM installation")?;
    Ok(statement.query_row([], |row| row.get::<_, i64>(0)).optional()?.map(i64::unsigned_abs))
}

/// Fails when the fence names another version of the set of stores than the recorded one.
pub(super) fn check(transaction: &Transaction<'_>, fence: &Fence, context: &'static str) -> Result<(), Error> {
    if fence.stores.is_some() {
        fence.check_stores(version(transaction)?, context)?;
    }
    Ok(())
}
