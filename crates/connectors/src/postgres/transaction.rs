//! Start and local settings of every transaction of the service, and conversion of values for its statements.

use std::time::Duration;

use chunk_sync_model::{Hash, SyncVersion};
use deadpool_postgres::{Client, GenericClient, Transaction};
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::ToSql;

use super::fault::Error;
use super::flight::Parameter;
use super::sql;

pub(super) async fn begin(
    client: &mut Client,
    level: IsolationLevel,
    read_only: bool,
) -> Result<Transaction<'_>, Error> {
    let transaction = client.build_transaction().isolation_level(level);
    // Never READ WRITE: it would override `default_transaction_read_only`, which a host sets when the disk is full.
    Ok(if read_only { transaction.read_only(true) } else { transaction }.start().await?)
}

/// How long a transaction may wait for this process before the server ends it. A suspended process holds no lock for longer.
const IDLE_IN_TRANSACTION: &str = "1s";

/// Makes the transaction commit durably, end soon if this process is suspended, and wait for a lock no longer than
/// `lock_timeout`, whatever the settings of role, database or pooler are.
pub(super) async fn set_locally(transaction: &impl GenericClient, lock_timeout: Duration) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::SET_LOCALLY).await?;
    transaction.execute_raw(&statement, local_settings(lock_timeout)).await?;
    Ok(())
}

/// The parameters of [`sql::SET_LOCALLY`].
pub(super) fn local_settings(lock_timeout: Duration) -> Vec<Parameter> {
    let lock_timeout = format!("{}ms", lock_timeout.as_millis().max(1));
    vec![Box::new(IDLE_IN_TRANSACTION), Box::new(lock_timeout)]
}

pub(super) async fn execute(
    transaction: &impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, Error> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.execute(&statement, parameters).await?)
}

/// The digest of the row as last written or read, from column `column` of its record.
pub(super) fn digest(record: &tokio_postgres::Row, column: usize) -> Result<Option<Hash>, Error> {
    let bytes: Option<&[u8]> = record.try_get(column)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(Hash::from_bytes))
}

pub(super) fn version(number: i64) -> SyncVersion {
    SyncVersion::new(number.unsigned_abs())
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
