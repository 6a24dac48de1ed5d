//! Examines the publication again while the log is open, at each heartbeat.

use std::collections::BTreeSet;

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
        let moved = moved.then_some("the table or its partitions are others than at the start");
        let altered = self.is_altered(&relations).await?.then_some("the publication was dropped or altered");
        if let Some(what) = hides.or(moved).or(altered) {
            let message = format!("{what}, publication {}; opening the log again", self.config.publication);
            return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
        }
        for statement in &statements {
            self.run(statement).await?;
            warn!(statement, "corrected the publication, which no longer fitted the table");
        }
        if !statements.is_empty() {
            let signature = self.signature(&relations).await?;
            self.query(NOTE_PUBLISHED, &[&self.config.slot, &signature.0]).await?;
            self.noted().signature = Some(signature);
        }
        Ok(())
    }

    /// Whether the publication was dropped or altered since the log was opened.
    async fn is_altered(&self, relations: &BTreeSet<u32>) -> Result<bool, Fault> {
        let noted = self.noted().signature.clone();
        match noted {
            Some(noted) => Ok(self.signature(relations).await? != noted),
            None => Ok(false),
        }
    }

    /// The signature of what the plugin reads, for a table and partitions with these object ids.
    pub(super) async fn signature(&self, relations: &BTreeSet<u32>) -> Result<Signature, Fault> {
        if self.config.plugin == Plugin::Wal2Json {
            return Ok(Signature::of_relations(relations));
        }
        let rows = &self.records.config;
        let printed = self.value(SIGNATURE, &[&self.config.publication, &rows.schema, &rows.table]).await?;
        Ok(Signature(printed.unwrap_or_default()))
    }
}
