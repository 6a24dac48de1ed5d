//! The rows as a store: each write is guarded by the version in the record.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Commit, Counts, CurrentState, Fault, FaultClass, Records, Row, Store, StoredDocument, StoredFingerprint,
    Write,
};
use chunk_sync_model::document::{Document, Fingerprint, row_fingerprint};
use chunk_sync_model::{State, Target};
use uuid::Uuid;

use super::records::{Of, PostgresRecords};

#[async_trait]
impl Store for PostgresRecords {
    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.create_missing().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        match self.apply_all(writes).await {
            Ok(applied) => applied,
            Err(fault) if fault.class == FaultClass::Rejected && writes.len() > 1 => self.apply_each(writes).await,
            Err(fault) => vec![Applied::Failed(fault); writes.len()],
        }
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        Ok(self.rows_of(ids).await?.into_iter().map(|row| row.and_then(looked)).collect())
    }

    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault> {
        Ok(self
            .page(Of::Rows, after, limit)
            .await?
            .into_iter()
            .filter_map(looked)
            .map(|looked| looked.seen())
            .collect())
    }

    fn expect(&self, state: &State) -> Fingerprint {
        row_fingerprint(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let chunks = self.count().await.map_err(|error| self.fault(error, "postgres: counts"))?;
        Ok(Counts { chunks, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        self.is_writable().await.map_err(|error| self.fault(error, "postgres: check"))
    }
}

impl PostgresRecords {
    async fn apply_all(&self, writes: &[Write]) -> Result<Vec<Applied>, Fault> {
        let ids: Vec<Uuid> = writes.iter().map(|write| write.id).collect();
        let answers = Mutex::new(Vec::new());
        let decide = |held: Vec<CurrentState>| {
            let (applied, commits): (Vec<_>, Vec<_>) =
                writes.iter().zip(held).map(|(write, held)| apply(write, held)).unzip();
            *answers.lock().unwrap_or_else(PoisonError::into_inner) = applied;
            commits.into_iter().flatten().collect()
        };
        self.merge(&ids, &decide).await?;
        Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies the writes one by one, so that one rejected write does not fail the others.
    async fn apply_each(&self, writes: &[Write]) -> Vec<Applied> {
        let mut applied = Vec::with_capacity(writes.len());
        for write in writes {
            match self.apply_all(std::slice::from_ref(write)).await {
                Ok(answer) => applied.extend(answer),
                Err(fault) => applied.push(Applied::Failed(fault)),
            }
        }
        applied
    }
}

/// Writes a state the way every other store does: of the record only the version changes.
fn apply(write: &Write, held: CurrentState) -> (Applied, Option<Commit>) {
    let mut record = held.record.unwrap_or_default();
    if record.version >= write.version {
        return (Applied::Skipped, None);
    }
    record.version = write.version;
    let row = write.state.as_deref().map(|state| row_fingerprint(state).digest());
    let commit = Commit {
        id: write.id,
        record,
        state: write.state.clone(),
        row_changed: true,
        row,
        outbox: Vec::new(),
        decided: Vec::new(),
        conflicts: Vec::new(),
    };
    (Applied::Written, Some(commit))
}

fn looked(row: Row) -> Option<StoredDocument> {
    Some(StoredDocument { id: row.id, version: row.version, document: Document::Row(row.state?) })
}
