//! The outbox of the stores, beside the rows.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, Outbox, PendingWrite};
use chunk_sync_model::Target;
use deadpool_postgres::Client;
use uuid::Uuid;

use super::fault::Error;
use super::flight::Parameter;
use super::records::PostgresRecords;
use super::sql;
use super::transaction::{limit_of, version};

const PENDING_WRITES: &str = "postgres: outbox";

impl PostgresRecords {
    pub(super) async fn with_outbox(&self, sql: &str, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let work = async {
            let client = self.pool.get().await?;
            let done = self.pool.within(on_outbox(&client, sql, pending_writes)).await;
            self.pool.settle(client, done)
        };
        work.await.map_err(|error| self.fault(error, PENDING_WRITES))
    }
}

#[async_trait]
impl Outbox for PostgresRecords {
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.with_outbox(sql::ENQUEUE, pending_writes).await
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        let rows = self.query(sql::PENDING_WRITES, &[&target.as_str(), &limit_of(limit)]).await;
        let read = |row: &tokio_postgres::Row| {
            Ok(PendingWrite { id: row.try_get(0)?, target, version: version(row.try_get(1)?) })
        };
        let pending_writes = rows.and_then(|rows| rows.iter().map(read).collect::<Result<_, Error>>());
        pending_writes.map_err(|error| self.fault(error, PENDING_WRITES))
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        self.with_outbox(sql::DRAINED, pending_writes).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        let rows = self.query(sql::OUTBOX_COUNTS, &[]).await.map_err(|error| self.fault(error, PENDING_WRITES))?;
        let mut counts: BTreeMap<Target, u64> = Target::ALL.into_iter().map(|target| (target, 0)).collect();
        for row in rows {
            let read = |row: &tokio_postgres::Row| Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
            let (name, count): (String, i64) = read(&row).map_err(|error| self.fault(error.into(), PENDING_WRITES))?;
            if let Some(target) = Target::ALL.into_iter().find(|target| target.as_str() == name) {
                counts.insert(target, count.unsigned_abs());
            }
        }
        Ok(counts)
    }
}

/// The parameters of a statement on outbox entries: ids, targets and versions, sorted in the order in which every
/// transaction locks the entries.
pub(super) fn outbox_columns(pending_writes: &[PendingWrite]) -> Vec<Parameter> {
    let mut sorted: BTreeMap<(Uuid, &'static str), i64> = BTreeMap::new();
    for pending_write in pending_writes {
        let version = sorted.entry((pending_write.id, pending_write.target.as_str())).or_default();
        *version = pending_write.version.signed().max(*version);
    }
    let (keys, versions): (Vec<(Uuid, &'static str)>, Vec<i64>) = sorted.into_iter().unzip();
    let (ids, targets): (Vec<Uuid>, Vec<&'static str>) = keys.into_iter().unzip();
    vec![Box::new(ids), Box::new(targets), Box::new(versions)]
}

async fn on_outbox(client: &Client, sql: &str, pending_writes: &[PendingWrite]) -> Result<(), Error> {
    if pending_writes.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached(sql).await?;
    client.execute_raw(&statement, outbox_columns(pending_writes)).await?;
    Ok(())
}
