//! The record of the installation in `chunk_sync.installation`. A process that records another set takes the lock
//! exclusively that every merge takes shared (see [`super::fence`]).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Installation, Installed, StoreSet};
use chunk_sync_model::{SyncVersion, Target};
use deadpool_postgres::Client;
use tokio_postgres::{IsolationLevel, Row};

use super::fault::Error;
use super::fence::VERSION;
use super::records::PostgresRecords;
use super::transaction::{begin, execute, set_locally};

const CONTEXT: &str = "postgres: installation";

const EXCLUSIVE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('chunk_sync: set of stores', 0))";

const THERE: &str = "SELECT (to_regclass($1) IS NOT NULL)::text";

/// The column `floor` is newer than the table: `init` reads the table before it migrates it.
const INSTALLED: &str = "SELECT id, version, stores, filling, coalesce((to_jsonb(i) ->> 'floor')::bigint, 0)
    FROM chunk_sync.installation i";

const SET: &str = "INSERT INTO chunk_sync.installation (id, version, stores, filling, floor)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (one) DO UPDATE SET id = excluded.id, version = excluded.version, stores = excluded.stores,
        filling = excluded.filling, floor = excluded.floor, recorded_at = now()";

const DROP_OUTBOX: &str = "DELETE FROM chunk_sync.outbox WHERE target <> ALL ($1)";

const FILLED: &str = "UPDATE chunk_sync.installation
    SET filling = array_to_string(array_remove(string_to_array(filling, ','), $2), ',') WHERE version = $1";

#[async_trait]
impl Installation for PostgresRecords {
    async fn installed(&self) -> Result<Option<Installed>, Fault> {
        self.read_installed().await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn is_fresh(&self) -> Result<bool, Fault> {
        let fresh = async {
            if !self.has_table("chunk_sync.records").await? {
                return Ok(true);
            }
            let rows = self.query("SELECT NOT EXISTS (SELECT FROM chunk_sync.records)", &[]).await?;
            Ok::<_, Error>(rows.first().map_or(Ok(true), |row| row.try_get(0))?)
        };
        fresh.await.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn record(&self, before: Option<u64>, new: &Installed) -> Result<(), Fault> {
        let recorded = async {
            let mut client = self.pool.get().await?;
            let recorded = self.pool.within(record(&mut client, self.config.lock_timeout, before, new)).await;
            self.pool.settle(client, recorded)
        };
        if recorded.await.map_err(|error| self.fault(error, CONTEXT))? {
            return Ok(());
        }
        let message = "another process recorded a set of stores at the same time; run `chunk-sync init` again";
        Err(Fault::new(FaultClass::Busy, CONTEXT, message))
    }

    async fn filled(&self, version: u64, store: Target) -> Result<(), Fault> {
        let filled = self.query(FILLED, &[&signed(version), &store.as_str()]).await;
        filled.map(drop).map_err(|error| self.fault(error, CONTEXT))
    }
}

impl PostgresRecords {
    async fn has_table(&self, name: &str) -> Result<bool, Error> {
        let rows = self.query(THERE, &[&name]).await?;
        Ok(rows.first().map_or(Ok(""), |row| row.try_get(0))? == "true")
    }

    async fn read_installed(&self) -> Result<Option<Installed>, Error> {
        if !self.has_table("chunk_sync.installation").await? {
            return Ok(None);
        }
        self.query(INSTALLED, &[]).await?.first().map(installed).transpose()
    }
}

/// Records the set of stores; false when the recorded version is not `before`.
async fn record(
    client: &mut Client,
    lock_timeout: Duration,
    before: Option<u64>,
    new: &Installed,
) -> Result<bool, Error> {
    let transaction = begin(client, IsolationLevel::ReadCommitted, false).await?;
    set_locally(&transaction, lock_timeout).await?;
    execute(&transaction, EXCLUSIVE, &[]).await?;
    let rows = transaction.query(VERSION, &[]).await?;
    let found = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?.map(i64::unsigned_abs);
    if found != before {
        return Ok(false);
    }
    let filling = new.filling.iter().map(|target| target.as_str()).collect::<Vec<_>>().join(",");
    execute(&transaction, SET, &[&new.id, &signed(new.version), &new.stores.recorded(), &filling, &new.floor.signed()])
        .await?;
    let stores: Vec<&str> = new.stores.0.keys().map(|target| target.as_str()).collect();
    execute(&transaction, DROP_OUTBOX, &[&stores]).await?;
    transaction.commit().await?;
    Ok(true)
}

fn installed(row: &Row) -> Result<Installed, Error> {
    let read = |text: &str| {
        StoreSet::from_recorded(text)
            .ok_or_else(|| Error::Setup(format!("cannot parse the set of stores in chunk_sync.installation: `{text}`")))
    };
    let filling: BTreeSet<Target> = read(row.try_get(3)?)?.0.into_keys().collect();
    let version = row.try_get::<_, i64>(1)?.unsigned_abs();
    let floor = SyncVersion::new(row.try_get::<_, i64>(4)?.unsigned_abs());
    Ok(Installed { id: row.try_get(0)?, version, stores: read(row.try_get(2)?)?, filling, floor })
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
