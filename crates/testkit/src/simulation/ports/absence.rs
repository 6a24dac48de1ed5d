//! The notes on absent rows through injected faults.

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsentRow, Approval, Fault, Fence, RecordedTable, Suspicion, Verdict,
};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::FaultyRecords;

#[async_trait]
impl AbsenceLog for FaultyRecords {
    fn is_captured(&self) -> bool {
        self.records.is_captured()
    }

    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault> {
        self.way.call(self.records.note_absent(ids, cause, at)).await
    }

    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault> {
        self.way.call(self.records.absent_rows(after, limit)).await
    }

    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.way.call(self.records.confirm_absent(ids)).await
    }

    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault> {
        self.way.call(self.records.absent_rows_were_seen(ids, at)).await
    }

    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.way.call(self.records.forget_absent(ids)).await
    }

    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault> {
        self.way.call(self.records.approve(approval)).await
    }

    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault> {
        self.way.call(self.records.absence_counts(at)).await
    }

    async fn check_table(&self) -> Result<RecordedTable, Fault> {
        self.way.call(self.records.check_table()).await
    }

    async fn suspicion(&self) -> Result<Option<Suspicion>, Fault> {
        self.way.call(self.records.suspicion()).await
    }

    async fn suspect(&self, suspicion: &Suspicion, fence: &Fence) -> Result<(), Fault> {
        self.way.call(self.records.suspect(suspicion, fence)).await
    }

    async fn record_table(&self, adopt: bool) -> Result<(), Fault> {
        self.way.call(self.records.record_table(adopt)).await
    }

    async fn record_partitions(&self, partitions: &[u32]) -> Result<(), Fault> {
        self.way.call(self.records.record_partitions(partitions)).await
    }

    async fn note_heartbeat(&self, value: Uuid) -> Result<(), Fault> {
        self.way.call(self.records.note_heartbeat(value)).await
    }

    async fn has_heartbeat(&self, value: Uuid) -> Result<bool, Fault> {
        self.way.call(self.records.has_heartbeat(value)).await
    }
}
