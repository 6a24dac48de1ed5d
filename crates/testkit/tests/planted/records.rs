//! A system of record that breaks a promise.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Commit, ConflictFilter, ConflictRecord, Counts, CurrentState, Decide, Fault, FaultClass, Fence,
    MergeScope, PendingWrite, Records, Row, Store, StoredDocument, StoredFingerprint, Write,
};
use chunk_sync_model::document::Fingerprint;
use chunk_sync_model::{State, SyncVersion, Target, Time};
use uuid::Uuid;

use super::Every;
use super::store::store;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flaw {
    RecordsNothing,
    ForgetsDebts,
    PaysWhateverVersion,
    RefusesDebts,
    IgnoresTheLease,
}

pub(super) struct Flawed(Arc<dyn Records>, Flaw, Every);

impl Flawed {
    pub(super) fn new(records: Arc<dyn Records>, flaw: Flaw) -> Self {
        Self(records, flaw, Every::new(10))
    }
}

store!(Flawed, |self, writes| { self.0.apply(writes).await });

#[async_trait]
impl Records for Flawed {
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault> {
        let skips = self.1 == Flaw::RecordsNothing && self.2.now();
        let decide = |held: Vec<CurrentState>| -> Vec<Commit> {
            let mut commits = decide(held);
            if skips {
                commits.clear();
            }
            if matches!(self.1, Flaw::ForgetsDebts | Flaw::RefusesDebts) {
                commits.iter_mut().for_each(|commit| commit.outbox.clear());
            }
            commits
        };
        let nobody = Fence::default();
        let fence = if self.1 == Flaw::IgnoresTheLease { &nobody } else { scope.fence };
        self.0.merge_in(MergeScope { fence, ..scope }, &decide).await
    }

    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault> {
        self.0.rows(after, limit).await
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        self.0.rows_of(ids).await
    }

    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        match self.1 {
            Flaw::ForgetsDebts => Ok(()),
            Flaw::RefusesDebts => Err(Fault::new(FaultClass::Unavailable, "planted", "the outbox takes no entries")),
            _ => self.0.enqueue(pending_writes).await,
        }
    }

    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault> {
        self.0.pending_writes(target, limit).await
    }

    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault> {
        let mut pending_writes = pending_writes.to_vec();
        if self.1 == Flaw::PaysWhateverVersion {
            pending_writes.iter_mut().for_each(|pending_write| pending_write.version = SyncVersion::new((1 << 53) - 1));
        }
        self.0.drained(&pending_writes).await
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        self.0.outbox_counts().await
    }

    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault> {
        self.0.conflicts(filter, limit).await
    }

    async fn open_conflicts(&self) -> Result<u64, Fault> {
        self.0.open_conflicts().await
    }

    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault> {
        self.0.forget_conflicts(before, limit).await
    }
}
