//! Capture from PostgreSQL's log: the publication, the slot, and the stream of changes. It reports which rows a
//! transaction touched, not what a change means.
//!
//! The service's own transactions, and the heartbeat, begin with a logical message of prefix `chunk_sync`; they are
//! reported without rows.

mod pgoutput;
mod polling;
mod position;
mod stream;
mod tunnel;
mod wal2json;

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, FaultClass, Opened, Position, Source};
use secrecy::SecretString;
use tracing::{info, warn};

use super::config::PostgresConfig;
use super::fault::Error;
use super::records::PostgresRecords;
use super::schema;
use super::sql::{literal, quoted};
use polling::Polling;
use position::State;
use stream::Stream;

const CONTEXT: &str = "postgres: capture";

/// Prefix of the logical message at the start of each of the service's own transactions.
pub(super) const OWN: &str = "chunk_sync";

/// What to read from the log, and how.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// URL of the replication connection.
    pub url: SecretString,
    /// The publication of the table of chunks.
    pub publication: String,
    /// The replication slot, which keeps the confirmed position.
    pub slot: String,
    /// The output plugin of the slot.
    pub plugin: Plugin,
}

impl CaptureConfig {
    /// Configuration of the replication connection, with the same security as the connection to the rows.
    pub(super) fn link(&self, rows: &PostgresConfig) -> PostgresConfig {
        PostgresConfig { url: self.url.clone(), ..rows.clone() }
    }
}

/// The output plugin that decodes the server's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plugin {
    /// Streamed over a replication connection. Built into every server.
    #[default]
    Pgoutput,
    /// Polled by SQL, for servers on which other tools read the slot as well.
    Wal2Json,
}

impl Plugin {
    /// The name, on the server and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pgoutput => "pgoutput",
            Self::Wal2Json => wal2json::NAME,
        }
    }
}

/// Capture from the log of the system of record.
pub struct PostgresCapture {
    records: Arc<PostgresRecords>,
    config: CaptureConfig,
}

impl PostgresCapture {
    /// Capture of the changes of the table of `records`.
    #[must_use]
    pub fn new(records: Arc<PostgresRecords>, config: CaptureConfig) -> Self {
        Self { records, config }
    }

    /// The statements that create the publication and the slot, as far as they are missing.
    ///
    /// # Errors
    /// The fault of the query when the server is unreachable, refuses the login or denies access to its catalogue.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let mut statements = Vec::new();
        let published = format!("SELECT 1 FROM pg_publication WHERE pubname = {}", literal(&self.config.publication));
        if self.ask(&published).await?.is_none() {
            // The id suffices: the merge reads the row itself.
            statements.push(format!(
                "CREATE PUBLICATION {} FOR TABLE {} (id)",
                quoted(&self.config.publication),
                schema::table(&self.records.config)
            ));
        }
        let slot = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {}", literal(&self.config.slot));
        if self.ask(&slot).await?.is_none() {
            statements.push(format!(
                "SELECT pg_create_logical_replication_slot({}, '{}')::text",
                literal(&self.config.slot),
                self.config.plugin.as_str()
            ));
        }
        Ok(statements)
    }

    async fn create_missing(&self) -> Result<(), Fault> {
        for statement in self.statements().await? {
            self.ask(&statement).await.map_err(|fault| self.hinted(fault, &statement))?;
            info!(statement, "created a publication or slot");
        }
        Ok(())
    }

    /// Adds the remedy when the server does not have the plugin or refuses to load it.
    fn hinted(&self, fault: Fault, statement: &str) -> Fault {
        if self.config.plugin == Plugin::Pgoutput || !statement.contains("replication_slot") {
            return fault;
        }
        let hint = "install wal2json on the server (Debian: postgresql-NN-wal2json), add it to output_plugin_libraries \
            if the server has that setting (a plain list: pgoutput, wal2json), or set postgres.plugin = \"pgoutput\"";
        Fault { class: FaultClass::Misconfigured, message: format!("{}; {hint}", fault.message), ..fault }
    }

    /// Reads the state of the slot. Fails when the slot is in use or belongs to another database or plugin.
    async fn look(&self) -> Result<State, Fault> {
        let answer =
            self.ask(&position::state(&self.config.slot, self.config.plugin.as_str())).await?.unwrap_or_default();
        let state = State::read(&answer);
        let state = state.ok_or_else(|| {
            Fault::new(FaultClass::Corrupt, CONTEXT, format!("cannot parse the state of the slot: `{answer}`"))
        })?;
        let slot = &self.config.slot;
        match state.slot.as_str() {
            "active" => Err(Fault::new(
                FaultClass::Busy,
                CONTEXT,
                format!("the slot {slot} is in use; stop the other reader, or set postgres.slot to another name"),
            )),
            "foreign" => {
                let message =
                    format!("the slot {slot} belongs to another database or plugin; set postgres.slot to another name");
                Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
            }
            _ => Ok(state),
        }
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

    async fn open(&self) -> Result<Opened, Fault> {
        let slot = &self.config.slot;
        let state = self.look().await?;
        let gap = state.gap();
        if let Some(gap) = gap {
            self.ask(&position::note_gap(slot, gap)).await?;
        }
        if state.slot == "lost" {
            self.ask(&format!("SELECT pg_drop_replication_slot({})::text", literal(slot))).await?;
        }
        self.create_missing().await?;
        if state.slot == "none" && state.noted.is_none() {
            warn!("the slot is new: earlier changes of the table are not captured; run `chunk-sync backfill`");
        }
        let source = match self.config.plugin {
            Plugin::Pgoutput => {
                Log::Stream(Stream::open(&self.config.link(&self.records.config).client()?, &self.config).await?)
            }
            Plugin::Wal2Json => Log::Polling(Polling::open(&self.records, slot).await?),
        };
        // Only the reader of the slot gets here: the server and the advisory lock admit one.
        let opening = self.ask(&position::note_slot(slot)).await?.unwrap_or_default();
        let source = Noting { source, opening, slot: slot.clone(), records: Arc::clone(&self.records) };
        Ok(Opened { source: Box::new(source), gap })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
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

/// The log, and the table that holds the position up to which it is read.
struct Noting {
    source: Log,
    slot: String,
    /// The number of this opening of the slot: a later opening invalidates it.
    opening: String,
    records: Arc<PostgresRecords>,
}

/// The log, read by either plugin.
enum Log {
    Stream(Stream),
    Polling(Polling),
}

impl Noting {
    async fn update(&self, statement: &str) -> Result<(), Fault> {
        let updated = self.records.ask(statement).await.map_err(|error| self.records.fault(error, CONTEXT))?;
        let overtaken = || {
            Fault::new(
                FaultClass::Busy,
                CONTEXT,
                format!("the slot {} was opened by another process; capture stops here", self.slot),
            )
        };
        updated.map(drop).ok_or_else(overtaken)
    }
}

#[async_trait]
impl Source for Noting {
    async fn next(&mut self) -> Result<Captured, Fault> {
        match &mut self.source {
            Log::Stream(stream) => stream.next().await,
            Log::Polling(polling) => polling.next().await,
        }
    }

    async fn note(&mut self, position: Position) -> Result<(), Fault> {
        self.update(&position::note(&self.slot, &self.opening, position)).await
    }

    async fn close_gap(&mut self) -> Result<(), Fault> {
        self.update(&position::close_gap(&self.slot, &self.opening)).await
    }

    fn confirm(&mut self, position: Position) {
        match &mut self.source {
            Log::Stream(stream) => stream.confirm(position),
            Log::Polling(polling) => polling.confirm(position),
        }
    }
}
