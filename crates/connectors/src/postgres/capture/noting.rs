//! The recorded position of an open log, beside the rows.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Position, Positions};
use tokio_postgres::types::PgLsn;

use super::CONTEXT;
use super::position;
use crate::postgres::records::{Params, PostgresRecords};

/// The table that holds the position up to which the slot is read.
pub(super) struct Noting {
    pub(super) slot: String,
    /// The number of this opening of the slot: a later opening invalidates it.
    pub(super) opening: i64,
    pub(super) records: Arc<PostgresRecords>,
}

impl Noting {
    /// Runs an update of the recorded state, which returns a row unless the slot was opened again.
    async fn update(&self, sql: &str, params: Params<'_>) -> Result<(), Fault> {
        let rows = self.records.query(sql, params).await.map_err(|error| self.records.fault(error, CONTEXT))?;
        if rows.is_empty() {
            let message = format!("the slot {} was opened by another process; capture stops here", self.slot);
            return Err(Fault::new(FaultClass::Busy, CONTEXT, message));
        }
        Ok(())
    }
}

#[async_trait]
impl Positions for Noting {
    async fn note(&self, position: Position) -> Result<(), Fault> {
        self.update(position::NOTE, &[&self.slot, &self.opening, &PgLsn::from(position.0)]).await
    }

    async fn close_gap(&self) -> Result<(), Fault> {
        self.update(position::CLOSE_GAP, &[&self.slot, &self.opening]).await
    }
}
