//! The lease in PostgreSQL: one row of `chunk_sync.lease`, and an advisory lock that merges take shared and a takeover takes
//! exclusively.
//!
//! # What a crash does
//! A running transaction of the holder ends with its connection, or after one second in which its process does nothing
//! (`idle_in_transaction_session_timeout`); until then a takeover waits. A takeover is one transaction: a crash during it
//! leaves the old holder or the new one, never neither. The new holder ends the replication connection of the old one after
//! the commit; after a crash in between the server ends it, and the capture waits until then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Lease, LeaseState};
use deadpool_postgres::Client;
use tokio_postgres::IsolationLevel;
use tracing::info;
use uuid::Uuid;

use super::config::PostgresConfig;
use super::fault::Error;
use super::pool::Pool;
use super::records::PostgresRecords;
use super::sql::LEASE_TOKEN;
use super::transaction::{begin, set_locally};
use crate::remote;

const CONTEXT: &str = "postgres: lease";

/// Timeout on the server for reading or renewing the lease. A term is several times as long.
const QUICK: Duration = Duration::from_millis(500);

/// Timeout for connecting.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest that one attempt to take over waits for running merges.
const MERGES_END: Duration = Duration::from_secs(5);

const LOCK: &str = "SELECT pg_advisory_xact_lock(1667787628, 1)";

const STATE: &str = "SELECT token, beat, holder FROM chunk_sync.lease WHERE stream = 'events'";

/// Takes the lease if its token is `$3` and its beat is `$4`. A missing row counts as beat 0.
const TAKE: &str = "INSERT INTO chunk_sync.lease AS held (stream, token, beat, holder, since) \
    SELECT 'events', $1::uuid, 1, $2::text, clock_timestamp() \
    WHERE $4::bigint = 0 OR EXISTS (SELECT FROM chunk_sync.lease WHERE stream = 'events') \
    ON CONFLICT (stream) DO UPDATE \
    SET token = excluded.token, beat = held.beat + 1, holder = excluded.holder, since = excluded.since \
    WHERE held.token IS NOT DISTINCT FROM $3::uuid AND held.beat = $4::bigint";

const RENEW: &str = "UPDATE chunk_sync.lease SET beat = beat + 1 WHERE stream = 'events' AND token = $1";

const RELEASE: &str =
    "UPDATE chunk_sync.lease SET token = NULL, beat = beat + 1 WHERE stream = 'events' AND token = $1";

/// Terminates the connection that reads the slot.
const END_READER: &str = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
    WHERE slot_name = $1 AND database = current_database() AND active_pid IS NOT NULL";

/// The lease in the database of the records.
pub struct PostgresLease {
    records: Arc<PostgresRecords>,
    /// Separate connections, so that a renewal does not wait for a merge.
    quick: Pool,
    holder: String,
    slot: String,
}

impl PostgresLease {
    /// The lease of the stream whose system of record this is. A takeover ends the connection that reads
    /// `slot`. Sends nothing yet.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the URL of the records cannot be parsed or is not allowed.
    pub fn new(records: Arc<PostgresRecords>, slot: &str) -> Result<Self, Fault> {
        let config = PostgresConfig {
            pool_size: 2,
            connect_timeout: CONNECT,
            statement_timeout: QUICK,
            lock_timeout: QUICK,
            ..records.config.clone()
        };
        let holder = format!("{} pid {}", remote::host_name(), std::process::id());
        Ok(Self { quick: Pool::new(&config)?, records, holder, slot: slot.to_owned() })
    }

    async fn look(&self) -> Result<LeaseState, Error> {
        let client = self.quick.get().await?;
        let rows = self.quick.within(async {
            let statement = client.prepare_cached(STATE).await?;
            Ok(client.query_opt(&statement, &[]).await?)
        });
        let rows = rows.await;
        let Some(row) = self.quick.settle(client, rows)? else {
            return Ok(LeaseState { token: None, heartbeat: 0, holder: String::new() });
        };
        let heartbeat: i64 = row.try_get(1)?;
        Ok(LeaseState { token: row.try_get(0)?, heartbeat: heartbeat.unsigned_abs(), holder: row.try_get(2)? })
    }

    /// Runs a statement on the row with that token. Returns whether there is one.
    async fn on_own(&self, sql: &str, token: Uuid) -> Result<bool, Fault> {
        let done = async {
            let client = self.quick.get().await?;
            let changed = self.quick.within(async {
                let statement = client.prepare_cached(sql).await?;
                Ok(client.execute(&statement, &[&token]).await?)
            });
            let changed = changed.await;
            self.quick.settle(client, changed)
        };
        done.await.map(|changed| changed > 0).map_err(fault)
    }

    async fn take_once(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Error> {
        let pool = &self.records.pool;
        let mut client = pool.get().await?;
        let taken = pool.within(self.take_on(&mut client, seen, token)).await;
        pool.settle(client, taken)
    }

    async fn take_on(&self, client: &mut Client, seen: &LeaseState, token: Uuid) -> Result<bool, Error> {
        let transaction = begin(client, IsolationLevel::ReadCommitted, false).await?;
        set_locally(&transaction, MERGES_END).await?;
        transaction.execute(LOCK, &[]).await?;
        let held: Option<Uuid> = match transaction.query_opt(LEASE_TOKEN, &[]).await? {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        if held == Some(token) {
            return Ok(true);
        }
        let heartbeat = i64::try_from(seen.heartbeat).unwrap_or(i64::MAX);
        let taken = transaction.execute(TAKE, &[&token, &self.holder, &seen.token, &heartbeat]).await?;
        transaction.commit().await?;
        Ok(taken > 0)
    }

    /// Ends the replication connection of the old holder. If this role may not, the capture waits until it ends.
    async fn end_reader(&self) {
        match self.records.query(END_READER, &[&self.slot]).await {
            Ok(ended) if ended.is_empty() => {}
            Ok(_) => info!(slot = self.slot, "ended the replication connection of the previous holder"),
            Err(error) => info!(
                slot = self.slot, %error,
                "cannot end the replication connection of the previous holder; waiting until it ends. \
                 GRANT pg_signal_backend to this role to let it end the connection"
            ),
        }
    }
}

#[async_trait]
impl Lease for PostgresLease {
    async fn state(&self) -> Result<LeaseState, Fault> {
        self.look().await.map_err(fault)
    }

    async fn take(&self, seen: &LeaseState, token: Uuid) -> Result<bool, Fault> {
        let taken = self.take_once(seen, token).await.map_err(fault)?;
        if taken {
            self.end_reader().await;
        }
        Ok(taken)
    }

    async fn renew(&self, token: Uuid) -> Result<bool, Fault> {
        self.on_own(RENEW, token).await
    }

    async fn release(&self, token: Uuid) -> Result<(), Fault> {
        self.on_own(RELEASE, token).await.map(drop)
    }
}

fn fault(error: Error) -> Fault {
    let missing = error.class() == FaultClass::Misconfigured;
    let fault = error.into_fault(CONTEXT);
    if !missing {
        return fault;
    }
    Fault { message: format!("{}; run `chunk-sync init` to bring the tables up to date", fault.message), ..fault }
}
