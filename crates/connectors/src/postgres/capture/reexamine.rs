//! Examines the publication again while the log is open, at each heartbeat.

use chunk_sync_engine::ports::{Fault, FaultClass};
use tracing::warn;

use super::position::NOTE_PUBLISHED;
use super::published::{SIGNATURE, Signature};
use super::{CONTEXT, Plugin, PostgresCapture};
use crate::postgres::publication::Publication;

impl PostgresCapture {
    /// Corrects the publication if that loses nothing. A column list that no longer covers a replica identity makes the
    /// server refuse updates and deletes of every program, but hides none. Fails if changes may be missing: the log is
    /// then opened again, with a gap.
    pub(super) async fn reexamine(&self) -> Result<(), Fault> {
        let Publication { statements, hides, relations, .. } = self.publication().await?;
        let hides = hides.filter(|_| self.config.plugin == Plugin::Pgoutput);
        let moved = self.noted().relations != relations;
        let altered = self.is_altered().await?.then_some("the publication was dropped or altered");
        let moved = moved.then_some("the table or its partitions are others than at the start");
        if let Some(what) = hides.or(altered).or(moved) {
            let message = format!("{what}, publication {}; opening the log again", self.config.publication);
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        for statement in &statements {
            self.run(statement).await?;
            warn!(statement, "corrected the publication, which no longer fitted the table");
        }
        if !statements.is_empty() {
            let signature = self.signature().await?;
            self.query(NOTE_PUBLISHED, &[&self.config.slot, &signature.0]).await?;
            self.noted().signature = Some(signature);
        }
        Ok(())
    }

    /// Whether the publication was dropped or altered since the log was opened.
    async fn is_altered(&self) -> Result<bool, Fault> {
        let noted = self.noted().signature.clone().filter(|_| self.config.plugin == Plugin::Pgoutput);
        match noted {
            Some(noted) => Ok(self.signature().await? != noted),
            None => Ok(false),
        }
    }

    pub(super) async fn signature(&self) -> Result<Signature, Fault> {
        let rows = &self.records.config;
        let printed = self.value(SIGNATURE, &[&self.config.publication, &rows.schema, &rows.table]).await?;
        Ok(Signature(printed.unwrap_or_default()))
    }
}
