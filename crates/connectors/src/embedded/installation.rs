//! The record of the installation in SQLite: one row, in the file of the system of record.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Installation, Installed, StoreSet};
use chunk_sync_model::{SyncVersion, Target};
use rusqlite::{OptionalExtension, Transaction, params};

use super::database::Durability;
use super::fault::Error;
use super::fence::version;
use super::rows::Rows;

const CONTEXT: &str = "embedded rows: installation";

#[async_trait]
impl Installation for Rows {
    async fn installed(&self) -> Result<Option<Installed>, Fault> {
        self.database.read(CONTEXT, installed).await
    }

    async fn is_fresh(&self) -> Result<bool, Fault> {
        let empty = |transaction: &Transaction<'_>| {
            Ok(transaction.query_row("SELECT NOT EXISTS (SELECT 1 FROM records)", [], |row| row.get(0))?)
        };
        self.database.read(CONTEXT, empty).await
    }

    async fn record(&self, before: Option<u64>, new: &Installed) -> Result<(), Fault> {
        let new = new.clone();
        let work = move |transaction: &Transaction<'_>| record(transaction, before, &new);
        if self.database.write(CONTEXT, Durability::Synced, work).await? {
            return Ok(());
        }
        let message = "another process recorded a set of stores at the same time; run `chunk-sync init` again";
        Err(Fault::new(FaultClass::Busy, CONTEXT, message))
    }

    async fn filled(&self, version: u64, store: Target) -> Result<(), Fault> {
        let work = move |transaction: &Transaction<'_>| {
            if let Some(mut installed) = installed(transaction)?.filter(|installed| installed.version == version) {
                installed.filling.remove(&store);
                set(transaction, &installed)?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }
}

fn installed(transaction: &Transaction<'_>) -> Result<Option<Installed>, Error> {
    let mut statement =
        transaction.prepare_cached("SELECT id, version, stores, filling, version_floor FROM installation")?;
    let row = statement.query_row([], |row| {
        let floor: i64 = row.get(4)?;
        Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?, floor))
    });
    let Some((id, version, stores, filling, floor)) = row.optional()? else {
        return Ok(None);
    };
    let read = |text: &str| {
        StoreSet::from_recorded(text).ok_or_else(|| Error::Unreadable("the set of stores", format!("`{text}`")))
    };
    let filling: BTreeSet<Target> = read(&filling)?.0.into_keys().collect();
    Ok(Some(Installed {
        id,
        version: version.unsigned_abs(),
        stores: read(&stores)?,
        filling,
        floor: SyncVersion::new(floor.unsigned_abs()),
    }))
}

/// Records the set of stores; false when the recorded version is not `before`.
fn record(transaction: &Transaction<'_>, before: Option<u64>, new: &Installed) -> Result<bool, Error> {
    if version(transaction)? != before {
        return Ok(false);
    }
    set(transaction, new)?;
    for target in Target::ALL.into_iter().filter(|target| !new.stores.0.contains_key(target)) {
        transaction.execute("DELETE FROM outbox WHERE target = ?1", [target.as_str()])?;
    }
    Ok(true)
}

fn set(transaction: &Transaction<'_>, installed: &Installed) -> Result<(), Error> {
    let sql =
        "INSERT INTO installation (one, id, version, stores, filling, version_floor) VALUES (1, ?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (one) DO UPDATE SET id = excluded.id, version = excluded.version, stores = excluded.stores,
            filling = excluded.filling, version_floor = excluded.version_floor";
    let filling: Vec<&str> = installed.filling.iter().map(|target| target.as_str()).collect();
    let version = i64::try_from(installed.version).unwrap_or(i64::MAX);
    let floor = i64::try_from(installed.floor.get()).unwrap_or(i64::MAX);
    let values = params![installed.id, version, installed.stores.recorded(), filling.join(","), floor];
    transaction.execute(sql, values)?;
    Ok(())
}
