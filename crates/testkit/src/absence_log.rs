//! Implementations of [`AbsenceLog`](chunk_sync_engine::ports::AbsenceLog) for ports of tests that are not about it.

/// Implements the notes on absent rows by passing each call on to `self.$field`.
#[macro_export]
macro_rules! forward_absence {
    ($port:ty, $field:tt) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::AbsenceLog for $port {
            fn is_captured(&self) -> bool {
                self.$field.is_captured()
            }

            async fn note_absent(
                &self,
                ids: &[uuid::Uuid],
                cause: chunk_sync_engine::ports::AbsenceCause,
                at: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.note_absent(ids, cause, at).await
            }

            async fn absent_rows(
                &self,
                after: Option<uuid::Uuid>,
                limit: usize,
            ) -> Result<Vec<chunk_sync_engine::ports::AbsentRow>, chunk_sync_engine::ports::Fault> {
                self.$field.absent_rows(after, limit).await
            }

            async fn confirm_absent(&self, ids: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.confirm_absent(ids).await
            }

            async fn absent_rows_were_seen(
                &self,
                ids: &[uuid::Uuid],
                at: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.absent_rows_were_seen(ids, at).await
            }

            async fn forget_absent(&self, ids: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.forget_absent(ids).await
            }

            async fn approve(
                &self,
                approval: chunk_sync_engine::ports::Approval,
            ) -> Result<chunk_sync_engine::ports::Verdict, chunk_sync_engine::ports::Fault> {
                self.$field.approve(approval).await
            }

            async fn absence_counts(
                &self,
                at: chunk_sync_model::Time,
            ) -> Result<chunk_sync_engine::ports::AbsenceCounts, chunk_sync_engine::ports::Fault> {
                self.$field.absence_counts(at).await
            }

            async fn check_table(
                &self,
            ) -> Result<chunk_sync_engine::ports::RecordedTable, chunk_sync_engine::ports::Fault> {
                self.$field.check_table().await
            }

            async fn suspicion(
                &self,
            ) -> Result<Option<chunk_sync_engine::ports::Suspicion>, chunk_sync_engine::ports::Fault> {
                self.$field.suspicion().await
            }

            async fn suspect(
                &self,
                suspicion: &chunk_sync_engine::ports::Suspicion,
                fence: &chunk_sync_engine::ports::Fence,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.suspect(suspicion, fence).await
            }

            async fn record_partitions(&self, partitions: &[u32]) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.record_partitions(partitions).await
            }

            async fn record_table(&self, adopt: bool) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.record_table(adopt).await
            }

            async fn note_heartbeat(&self, value: uuid::Uuid) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.note_heartbeat(value).await
            }

            async fn has_heartbeat(&self, value: uuid::Uuid) -> Result<bool, chunk_sync_engine::ports::Fault> {
                self.$field.has_heartbeat(value).await
            }
        }
    };
}

/// Implements the notes on absent rows for rows that are never absent.
#[macro_export]
macro_rules! no_absence {
    ($port:ty) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::AbsenceLog for $port {
            fn is_captured(&self) -> bool {
                false
            }

            async fn note_absent(
                &self,
                _: &[uuid::Uuid],
                _: chunk_sync_engine::ports::AbsenceCause,
                _: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn absent_rows(
                &self,
                _: Option<uuid::Uuid>,
                _: usize,
            ) -> Result<Vec<chunk_sync_engine::ports::AbsentRow>, chunk_sync_engine::ports::Fault> {
                Ok(Vec::new())
            }

            async fn confirm_absent(&self, _: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn absent_rows_were_seen(
                &self,
                _: &[uuid::Uuid],
                _: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn forget_absent(&self, _: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn approve(
                &self,
                _: chunk_sync_engine::ports::Approval,
            ) -> Result<chunk_sync_engine::ports::Verdict, chunk_sync_engine::ports::Fault> {
                Ok(chunk_sync_engine::ports::Verdict::Approved(chunk_sync_engine::ports::Deletions::default()))
            }

            async fn absence_counts(
                &self,
                _: chunk_sync_model::Time,
            ) -> Result<chunk_sync_engine::ports::AbsenceCounts, chunk_sync_engine::ports::Fault> {
                Ok(chunk_sync_engine::ports::AbsenceCounts::default())
            }
        }
    };
}
