//! An open stream of changes that notes the confirmed position beside the rows.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position, Source};

use super::CONTEXT;
use super::position;
use super::stream::Stream;
use crate::postgres::records::PostgresRecords;

/// The log, and the table that holds the position up to which it is read.
pub(super) struct Noting {
    pub(super) source: Stream,
    pub(super) slot: String,
    /// The number of this opening of the slot: a later opening invalidates it.
    pub(super) opening: String,
    pub(super) records: Arc<PostgresRecords>,
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
        self.source.next().await
    }

    async fn note(&mut self, position: Position) -> Result<(), Fault> {
        self.update(&position::note(&self.slot, &self.opening, position)).await
    }

    async fn close_gap(&mut self) -> Result<(), Fault> {
        self.update(&position::close_gap(&self.slot, &self.opening)).await
    }

    fn confirm(&mut self, position: Position) {
        self.source.confirm(position);
    }
}
