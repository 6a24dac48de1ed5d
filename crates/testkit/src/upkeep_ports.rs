//! Implementations of the ports of upkeep for ports of tests that are not about it.

/// Implements [`IdleRecords`](chunk_sync_engine::ports::IdleRecords) by passing each call on to `self.$field`.
#[macro_export]
macro_rules! forward_idle_records {
    ($port:ty, $field:tt) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::IdleRecords for $port {
            async fn idle(
                &self,
                after: Option<uuid::Uuid>,
                before: chunk_sync_model::Time,
                limit: usize,
            ) -> Result<chunk_sync_engine::ports::IdlePage, chunk_sync_engine::ports::Fault> {
                self.$field.idle(after, before, limit).await
            }

            async fn swept(
                &self,
                ids: &[uuid::Uuid],
                before: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.swept(ids, before).await
            }
        }
    };
}

/// Implements [`Erasures`](chunk_sync_engine::ports::Erasures) by passing each call on to `self.$field`.
#[macro_export]
macro_rules! forward_erasures {
    ($port:ty, $field:tt) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::Erasures for $port {
            async fn request_erasure(&self, ids: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.request_erasure(ids).await
            }

            async fn requested_erasures(
                &self,
                limit: usize,
            ) -> Result<Vec<uuid::Uuid>, chunk_sync_engine::ports::Fault> {
                self.$field.requested_erasures(limit).await
            }

            async fn withdraw_erasure(&self, ids: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.withdraw_erasure(ids).await
            }

            async fn erase_conflicts(&self, id: uuid::Uuid) -> Result<u64, chunk_sync_engine::ports::Fault> {
                self.$field.erase_conflicts(id).await
            }
        }
    };
}

/// Implements [`WatchList`](chunk_sync_engine::ports::WatchList) by passing each call on to `self.$field`.
#[macro_export]
macro_rules! forward_watch_list {
    ($port:ty, $field:tt) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::WatchList for $port {
            async fn watch(
                &self,
                watched: &[chunk_sync_engine::ports::Watched],
                keep: std::time::Duration,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.watch(watched, keep).await
            }

            async fn watch_outbox(&self, keep: std::time::Duration) -> Result<(), chunk_sync_engine::ports::Fault> {
                self.$field.watch_outbox(keep).await
            }

            async fn watched(
                &self,
                target: chunk_sync_model::Target,
                after: Option<uuid::Uuid>,
                limit: usize,
            ) -> Result<Vec<uuid::Uuid>, chunk_sync_engine::ports::Fault> {
                self.$field.watched(target, after, limit).await
            }

            async fn unwatch(&self) -> Result<u64, chunk_sync_engine::ports::Fault> {
                self.$field.unwatch().await
            }
        }
    };
}

/// Implements the ports of upkeep for records that are never idle, of which nothing is erased and nothing comes late.
#[macro_export]
macro_rules! no_upkeep {
    ($port:ty) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::IdleRecords for $port {
            async fn idle(
                &self,
                _: Option<uuid::Uuid>,
                _: chunk_sync_model::Time,
                _: usize,
            ) -> Result<chunk_sync_engine::ports::IdlePage, chunk_sync_engine::ports::Fault> {
                Ok(chunk_sync_engine::ports::IdlePage::default())
            }

            async fn swept(
                &self,
                _: &[uuid::Uuid],
                _: chunk_sync_model::Time,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }
        }

        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::Erasures for $port {
            async fn request_erasure(&self, _: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn requested_erasures(&self, _: usize) -> Result<Vec<uuid::Uuid>, chunk_sync_engine::ports::Fault> {
                Ok(Vec::new())
            }

            async fn withdraw_erasure(&self, _: &[uuid::Uuid]) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn erase_conflicts(&self, _: uuid::Uuid) -> Result<u64, chunk_sync_engine::ports::Fault> {
                Ok(0)
            }
        }

        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::WatchList for $port {
            async fn watch(
                &self,
                _: &[chunk_sync_engine::ports::Watched],
                _: std::time::Duration,
            ) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn watch_outbox(&self, _: std::time::Duration) -> Result<(), chunk_sync_engine::ports::Fault> {
                Ok(())
            }

            async fn watched(
                &self,
                _: chunk_sync_model::Target,
                _: Option<uuid::Uuid>,
                _: usize,
            ) -> Result<Vec<uuid::Uuid>, chunk_sync_engine::ports::Fault> {
                Ok(Vec::new())
            }

            async fn unwatch(&self) -> Result<u64, chunk_sync_engine::ports::Fault> {
                Ok(0)
            }
        }
    };
}
