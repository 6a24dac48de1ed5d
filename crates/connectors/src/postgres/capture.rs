//! Capture from PostgreSQL's log: the publication, the slot, and the stream of changes. It reports which rows a
//! transaction touched, not what a change means.
//!
//! The publication is examined when the log is opened and at each heartbeat. If it was dropped or changed since, changes
//! may be missing from the log: that is a gap. If it was dropped, changes before it was created again cannot be decoded,
//! so the slot is created again as well.
//!
//! Before a merge of the service writes rows, it lists their ids in a logical message of prefix `chunk_sync`. Each listed row
//! is left out once. A row that is not listed, or that appears again, was written by a trigger or a cascade: it is reported
//! like a write of another program. The message only saves work: the merge compares the row with its record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Gap, Opened, SystemOfRecord as _};
pub use config::{CaptureConfig, Plugin};
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;
use tracing::warn;
use uuid::Uuid;

use super::fault::Error;
use super::found_slot::{FoundSlot, SLOT, SlotState};
use super::link::Link;
use super::provider::Provider;
use super::publication::{Publication, examine_publication};
use super::records::{Params, PostgresRecords};

mod config;
mod creation;
mod decoder;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod noting;
mod pgoutput;
mod position;
mod published;
mod reexamine;
mod rights;
mod slot;
mod stream;
mod visible;
mod wal2json;

use decoder::{Decoder, Transactions};
use noting::Noting;
use pgoutput::Tables;
use position::{STATE, State};
use published::Signature;
use stream::{Stream, Wanted};
use wal2json::Lines;

const CONTEXT: &str = "postgres: capture";

/// Prefix of the service's logical messages.
pub(super) const OWN: &str = "chunk_sync";

/// A message in the log: an idle table then does not make the slot keep the log of other tables.
const HEARTBEAT: &str = "SELECT pg_logical_emit_message(true, 'chunk_sync', 'heartbeat')";

const DROP_SLOT: &str = "SELECT pg_drop_replication_slot($1)";

/// The time after which the server ends a replication connection that does not answer, in milliseconds.
const SENDER_TIMEOUT: &str = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'";

/// The rows that a message of a merge lists: ids separated by commas. A heartbeat lists none.
fn own_ids(content: &str) -> Vec<Uuid> {
    content.split(',').filter_map(|id| id.parse().ok()).collect()
}

/// Capture from the log of the system of record.
pub struct PostgresCapture {
    records: Arc<PostgresRecords>,
    config: CaptureConfig,
    noted: Mutex<Noted>,
}

/// What this process notes about capture.
#[derive(Default)]
struct Noted {
    /// The OIDs of the table and its partitions when the log was last opened.
    relations: BTreeSet<u32>,
    /// The signature of the publication when the log was last opened.
    signature: Option<Signature>,
    /// The sessions that the creation of the slot waits for.
    obstacle: Option<String>,
}

impl PostgresCapture {
    /// Capture of the changes of the table of `records`.
    #[must_use]
    pub fn new(records: Arc<PostgresRecords>, config: CaptureConfig) -> Self {
        Self { records, config, noted: Mutex::default() }
    }

    async fn publication(&self) -> Result<Publication, Fault> {
        let (records, config) = (&self.records, &self.config);
        let fault = |error| records.fault(error, CONTEXT);
        let client = records.pool.get().await.map_err(fault)?;
        let examined =
            async { Ok(examine_publication(&client, &records.config, &config.publication, config.publish).await) };
        let examined = records.pool.within(examined).await;
        let examined = records.pool.settle(client, examined).map_err(fault)?;
        examined.map_err(|refusal| refusal.into_fault(CONTEXT))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why changes may have been missed before the log is opened.
    fn gap(&self, state: &State, publication: &Publication, signature: &Signature) -> Option<Gap> {
        let altered = state.published.as_ref().is_some_and(|noted| noted != signature);
        let hidden = self.config.plugin == Plugin::Pgoutput && publication.hides.is_some();
        let unpublished = state.noted.is_some() && (altered || hidden);
        unpublished.then_some(Gap::Unpublished).or(state.gap())
    }

    /// The slot, if it exists.
    async fn slot(&self) -> Result<Option<FoundSlot>, Fault> {
        let rows = self.query(SLOT, &[&self.config.slot]).await?;
        let found = rows.first().map(FoundSlot::of).transpose().map_err(|error| self.fault(error))?;
        Ok(found.flatten())
    }

    /// Reads the recorded state and the slot. Fails when the slot is in use or belongs to another database or plugin.
    async fn look(&self) -> Result<State, Fault> {
        let slot = &self.config.slot;
        let rows = self.query(&STATE, &[slot]).await?;
        let state = rows.first().map(State::of).transpose().map_err(|error| self.fault(error))?;
        let state =
            state.ok_or_else(|| Fault::new(FaultClass::Corrupt, CONTEXT, "the server did not show its state"))?;
        match state.slot_state(self.config.plugin) {
            Some(SlotState::Active) => Err(Fault::new(
                FaultClass::Busy,
                CONTEXT,
                format!("the slot {slot} is in use; stop the other reader, or set postgres.slot to another name"),
            )),
            Some(SlotState::Foreign) => Err(Self::foreign(slot, state.slot.as_ref())),
            Some(SlotState::Lost | SlotState::Free) | None => Ok(state),
        }
    }

    /// After what silence of the server the connection is given up. A server without `wal_sender_timeout` sends nothing
    /// while it decodes a large transaction.
    async fn silence(&self) -> Result<Duration, Fault> {
        let millis: Option<i64> = self.value(SENDER_TIMEOUT, &[]).await?;
        match millis.and_then(|millis| u64::try_from(millis).ok()) {
            None | Some(0) => Ok(10 * self.config.silence),
            Some(millis) => Ok(self.config.silence.max(Duration::from_millis(millis))),
        }
    }

    /// Opens the stream of the plugin.
    async fn stream(&self, state: &State, relations: BTreeSet<u32>) -> Result<Stream, Fault> {
        let link = Link::of(&self.config.link(&self.records.config))?;
        let (options, decoder) = match self.config.plugin {
            Plugin::Pgoutput => {
                let decoder = Decoder::Pgoutput(Transactions::of(Tables::of(relations)));
                (pgoutput::options(&self.config.publication), decoder)
            }
            Plugin::Wal2Json => {
                let rows = &self.records.config;
                let tables: Option<String> = self.value(wal2json::TABLES, &[&rows.schema, &rows.table]).await?;
                (wal2json::options(&tables.unwrap_or_default()), Decoder::Wal2Json(Lines::default()))
            }
        };
        let (system, silence) = (state.server.system.as_str(), self.silence().await?);
        let (slot, provider) = (self.config.slot.as_str(), self.provider(&link).await?);
        Stream::open(&link, Wanted { slot, options: &options, system, provider, silence }, decoder).await
    }

    async fn provider(&self, link: &Link) -> Result<Provider, Fault> {
        let answer: Option<String> = self.value(Provider::ASK, &[]).await?;
        Ok(Provider::of(answer.as_deref(), link))
    }

    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        self.records.query(sql, params).await.map_err(|error| self.fault(error))
    }

    /// The first value of the first row; `None` for no row or NULL.
    async fn value<T: FromSqlOwned>(&self, sql: &str, params: Params<'_>) -> Result<Option<T>, Fault> {
        self.records.value(sql, params).await.map_err(|error| self.fault(error))
    }

    async fn run(&self, statements: &str) -> Result<(), Fault> {
        self.records.run(statements).await.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: Error) -> Fault {
        self.records.fault(error, CONTEXT)
    }
}

#[async_trait]
impl Capture for PostgresCapture {
    async fn prepare(&self) -> Result<(), Fault> {
        self.create_missing().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.publication().await.map(drop)
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let slot = &self.config.slot;
        let state = self.look().await?;
        let publication = self.publication().await?;
        let signature = self.signature(&publication.relations).await?;
        let gap = self.gap(&state, &publication, &signature);
        if let Some(gap) = gap {
            self.query(position::NOTE_GAP, &[slot, &gap.as_str()]).await?;
        }
        // A slot cannot decode what was written before its publication existed: PostgreSQL 15 ends the stream, again
        // and again.
        let is_other = state.published.as_ref().is_some_and(|noted| !noted.is_of_same_publication(&signature));
        let undecodable = !publication.exists || (is_other && self.config.plugin == Plugin::Pgoutput);
        match state.slot_state(self.config.plugin) {
            Some(SlotState::Lost) => self.query(DROP_SLOT, &[slot]).await.map(drop)?,
            Some(SlotState::Free) if undecodable => self.query(DROP_SLOT, &[slot]).await.map(drop)?,
            _ => {}
        }
        self.create_missing().await?;
        // Read before the log is opened: what changes later is found by the next heartbeat.
        let relations = self.publication().await?.relations;
        let signature = self.signature(&relations).await?;
        self.noted().relations.clone_from(&relations);
        self.noted().signature = Some(signature.clone());
        if state.slot.is_none() && state.noted.is_none() {
            warn!("the slot is new: earlier changes of the table are not captured; run `chunk-sync backfill`");
        }
        let source = self.stream(&state, relations).await?;
        // Only the reader of the slot gets here: the server admits one.
        let opening = self.value(&position::NOTE_SLOT, &[slot, &signature.0]).await?.unwrap_or_default();
        let positions = Arc::new(Noting { opening, slot: slot.clone(), records: Arc::clone(&self.records) });
        Ok(Opened { source: Box::new(source), positions, gap })
    }

    fn obstacle(&self) -> Option<String> {
        self.noted().obstacle.clone()
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        self.records.takes_writes().await?;
        self.reexamine().await?;
        self.query(HEARTBEAT, &[]).await.map(drop)
    }

    async fn until_visible(&self, transactions: &[u32]) -> Result<(), Fault> {
        self.wait_until_visible(transactions).await
    }

    async fn lag(&self) -> Result<u64, Fault> {
        let behind = self.slot().await?.map_or(0, |found| found.behind);
        Ok(u64::try_from(behind).unwrap_or_default())
    }
}
