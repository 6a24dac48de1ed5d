//! Ports without content, for tests and measurements of something else.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, Projection, StoredDocument, Write};
use chunk_sync_model::document::Document;
use chunk_sync_model::{State, Target};
use uuid::Uuid;

/// A store that holds nothing, whatever it answers to writes.
pub struct EmptyStore {
    target: Target,
    answer: Box<dyn Fn() -> Applied + Send + Sync>,
}

impl EmptyStore {
    /// A store that answers each write so.
    #[must_use]
    pub fn new(target: Target, answer: impl Fn() -> Applied + Send + Sync + 'static) -> Self {
        Self { target, answer: Box::new(answer) }
    }
}

#[async_trait]
impl Projection for EmptyStore {
    fn target(&self) -> Target {
        self.target
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        vec![(self.answer)(); writes.len()]
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        Ok(vec![None; ids.len()])
    }

    async fn scan(&self, _: Option<Uuid>, _: usize) -> Result<DocumentPage, Fault> {
        Ok(DocumentPage { documents: Vec::new(), is_last: true })
    }

    fn expect(&self, state: &State) -> Document {
        Document::Row(Arc::new(state.clone()))
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        Ok(Counts::default())
    }

    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Implements [`ConflictLog`](chunk_sync_engine::ports::ConflictLog) for records without conflicts.
#[macro_export]
macro_rules! no_conflicts {
    ($port:ty) => {
        #[async_trait::async_trait]
        impl chunk_sync_engine::ports::ConflictLog for $port {
            async fn conflicts(
                &self,
                _: &chunk_sync_engine::ports::ConflictFilter,
                _: usize,
            ) -> Result<chunk_sync_engine::ports::ConflictPage, chunk_sync_engine::ports::Fault> {
                Ok(chunk_sync_engine::ports::ConflictPage::default())
            }

            async fn open_conflicts(&self) -> Result<u64, chunk_sync_engine::ports::Fault> {
                Ok(0)
            }

            async fn conflict_bytes(&self, _: u64) -> Result<u64, chunk_sync_engine::ports::Fault> {
                Ok(0)
            }

            async fn forget_conflicts(
                &self,
                _: chunk_sync_model::Time,
                _: usize,
            ) -> Result<u64, chunk_sync_engine::ports::Fault> {
                Ok(0)
            }
        }
    };
}
