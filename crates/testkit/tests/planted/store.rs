//! Stores that break a promise.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, Projection, StoredDocument, Write};
use chunk_sync_model::document::Document;
use chunk_sync_model::{EmbeddingModel, Limits, State, SyncVersion, Target};
use chunk_sync_testkit::memory::MemoryStore;
use uuid::Uuid;

use super::Every;

/// A store that delegates everything but its writes to another.
macro_rules! store {
    ($store:ty, |$self:ident, $writes:ident| $apply:block) => {
        #[async_trait]
        impl Projection for $store {
            fn target(&self) -> Target {
                self.0.target()
            }

            async fn prepare(&self) -> Result<(), Fault> {
                self.0.prepare().await
            }

            async fn apply(&$self, $writes: &[Write]) -> Vec<Applied> $apply

            async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
                self.0.fetch_documents(ids).await
            }

            async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
                self.0.scan(after, limit).await
            }

            fn expect(&self, state: &State) -> Document {
                self.0.expect(state)
            }

            async fn counts(&self) -> Result<Counts, Fault> {
                self.0.counts().await
            }

            async fn check(&self) -> Result<(), Fault> {
                self.0.check().await
            }
        }
    };
}

/// The last write wins, whatever its version.
pub(super) struct Unguarded(pub(super) Arc<dyn Projection>);

store!(Unguarded, |self, writes| {
    let latest = SyncVersion::new((1 << 53) - 1);
    let gone = writes.iter().map(|write| Write { version: latest, state: None, ..write.clone() });
    self.0.apply(&gone.collect::<Vec<_>>()).await;
    self.0.apply(writes).await
});

/// Answers from a list of what was written, whatever the store holds.
pub(super) struct Ledger {
    store: Arc<dyn Projection>,
    list: MemoryStore,
}

impl Ledger {
    pub(super) fn new(store: Arc<dyn Projection>) -> Self {
        let model = EmbeddingModel { model: "gte".into(), vector: "dense_gte".into(), size: 4 };
        let limits = Limits { models: vec![model], ..Limits::default() };
        Self { list: MemoryStore::new(store.target(), limits), store }
    }
}

#[async_trait]
impl Projection for Ledger {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.store.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        self.list.apply(writes).await;
        self.store.apply(writes).await
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.list.fetch_documents(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.list.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.list.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.store.check().await
    }
}

/// Reports writes as written that it has not written.
pub(super) struct Forgets(pub(super) Arc<dyn Projection>, pub(super) Every);

store!(Forgets, |self, writes| {
    match self.1.now() {
        true => vec![Applied::Written; writes.len()],
        false => self.0.apply(writes).await,
    }
});
