//! Capture from PostgreSQL's log: publication, slot, and the stream behind them. What a change means is not known here,
//! only which rows it touched.
//!
//! Transactions of the service itself begin with a message of prefix `chunk_sync`, and carry nothing; so does the heartbeat.

mod pgoutput;
mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Source};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::fault::Error;
use super::records::PostgresRecords;
use super::schema;
use super::sql::{literal, quoted};
use stream::Stream;

const CONTEXT: &str = "postgres: capture";

/// What every transaction of our own says first.
pub(super) const OWN: &str = "chunk_sync";

/// What is read from the log, and how.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// For the replication connection.
    pub url: SecretString,
    /// The publication of the table of chunks.
    pub publication: String,
    /// The slot, which remembers what is confirmed.
    pub slot: String,
}

/// Capture from the log of the system of record.
pub struct PostgresCapture {
    records: Arc<PostgresRecords>,
    config: CaptureConfig,
}

impl PostgresCapture {
    /// Capture of what happens to the table of `records`.
    #[must_use]
    pub fn new(records: Arc<PostgresRecords>, config: CaptureConfig) -> Self {
        Self { records, config }
    }

    /// The statements that create what is missing.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let mut statements = Vec::new();
        let published = format!("SELECT 1 FROM pg_publication WHERE pubname = {}", literal(&self.config.publication));
        if self.ask(&published).await?.is_none() {
            // The id is enough: what a row says is read where it stands.
            statements.push(format!(
                "CREATE PUBLICATION {} FOR TABLE {} (id)",
                quoted(&self.config.publication),
                schema::table(&self.records.config)
            ));
        }
        let slot = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {}", literal(&self.config.slot));
        if self.ask(&slot).await?.is_none() {
            statements.push(format!(
                "SELECT pg_create_logical_replication_slot({}, 'pgoutput')::text",
                literal(&self.config.slot)
            ));
        }
        Ok(statements)
    }

    async fn create_missing(&self) -> Result<(), Fault> {
        for statement in self.statements().await? {
            self.ask(&statement).await?;
            info!(statement, "created what capture needs");
            if statement.contains("replication_slot") {
                warn!("the slot is new: what was written into the table before is not captured; `backfill` carries it");
            }
        }
        Ok(())
    }

    /// Refuses a slot that has lost its place, loudly: going on would skip changes in silence.
    async fn check_slot(&self) -> Result<(), Fault> {
        let sql = format!(
            "SELECT CASE WHEN database IS DISTINCT FROM current_database() OR plugin IS DISTINCT FROM 'pgoutput' \
             THEN 'foreign' ELSE coalesce(wal_status, '') END || ' ' || active::text \
             FROM pg_replication_slots WHERE slot_name = {}",
            literal(&self.config.slot)
        );
        let state = self.ask(&sql).await?.unwrap_or_default();
        if state.starts_with("lost") {
            let message = format!(
                "the slot {} was invalidated and has lost changes: drop it by pg_drop_replication_slot, start again, and \
                 run `backfill` and `verify`",
                self.config.slot
            );
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        if state.starts_with("foreign") {
            let message = format!(
                "the slot {} belongs to another database or plugin: name another one in postgres.slot",
                self.config.slot
            );
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        if state.ends_with("true") {
            let message = format!("the slot {} is in use", self.config.slot);
            return Err(Fault::new(FaultClass::Busy, CONTEXT, message));
        }
        Ok(())
    }

    /// The first value of the first row.
    async fn ask(&self, sql: &str) -> Result<Option<String>, Fault> {
        self.records.ask(sql).await.map_err(|error: Error| self.records.fault(error, CONTEXT))
    }
}

#[async_trait]
impl Capture for PostgresCapture {
    async fn prepare(&self) -> Result<(), Fault> {
        self.create_missing().await
    }

    async fn open(&self) -> Result<Box<dyn Source>, Fault> {
        self.create_missing().await?;
        self.check_slot().await?;
        Ok(Box::new(Stream::open(self.config.url.expose_secret(), &self.config).await?))
    }

    async fn beat(&self) -> Result<(), Fault> {
        self.ask("SELECT pg_logical_emit_message(true, 'chunk_sync', 'heartbeat')::text").await.map(drop)
    }

    async fn lag(&self) -> Result<u64, Fault> {
        let sql = format!(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::text FROM pg_replication_slots \
             WHERE slot_name = {}",
            literal(&self.config.slot)
        );
        Ok(self.ask(&sql).await?.and_then(|bytes| bytes.parse().ok()).unwrap_or_default())
    }
}
