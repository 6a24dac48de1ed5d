//! A system of record without cost, to measure the rest of the service.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Commit, Committed, Counts, CurrentState, Fault, MergeScope, MergeTransaction, Outbox, PendingWrite, Row, RowPage,
    RowsWritten, SystemOfRecord,
};
use chunk_sync_model::Target;
use uuid::Uuid;

struct FreeMerge(usize);

#[async_trait]
impl MergeTransaction for FreeMerge {
    fn current(&mut self) -> Vec<CurrentState> {
        vec![CurrentState::default(); self.0]
    }

    async fn write(&mut self, _: &[Commit]) -> Result<RowsWritten, Fault> {
        Ok(RowsWritten::Stored(Vec::new()))
    }

    async fn commit(self: Box<Self>, _: Vec<Commit>) -> Result<Committed, Fault> {
        Ok(Committed::Durable)
    }
}

/// A system of record that reads nothing and keeps nothing.
pub(crate) struct FreeRecords;

#[async_trait]
impl SystemOfRecord for FreeRecords {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault> {
        Ok(Box::new(FreeMerge(scope.ids.len())))
    }

    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault> {
        Ok(vec![CurrentState::default(); ids.len()])
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        Ok(Counts::default())
    }

    async fn rows(&self, _: Option<Uuid>, _: usize) -> Result<RowPage, Fault> {
        Ok(RowPage { is_last: true, ..RowPage::default() })
    }

    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault> {
        Ok(ids.iter().map(|_| None).collect())
    }
}

#[async_trait]
impl Outbox for FreeRecords {
    async fn enqueue(&self, _: &[PendingWrite]) -> Result<(), Fault> {
        Ok(())
    }

    async fn pending_writes(&self, _: Target, _: usize) -> Result<Vec<PendingWrite>, Fault> {
        Ok(Vec::new())
    }

    async fn drained(&self, _: &[PendingWrite]) -> Result<(), Fault> {
        Ok(())
    }

    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault> {
        Ok(BTreeMap::new())
    }
}

chunk_sync_testkit::no_absence!(FreeRecords);
chunk_sync_testkit::no_conflicts!(FreeRecords);
chunk_sync_testkit::no_upkeep!(FreeRecords);
