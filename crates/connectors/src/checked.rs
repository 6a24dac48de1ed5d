//! A store that is prepared only if its server belongs to this installation: a server that is down when the service starts is
//! asked for its mark before it is first written to.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Counts, DocumentPage, Fault, Marked, Projection, StoredDocument, Write, check_mark,
};
use chunk_sync_model::document::Document;
use chunk_sync_model::{State, Target};
use uuid::Uuid;

/// A store whose preparation begins with its mark.
pub struct Checked {
    store: Arc<dyn Projection>,
    marked: Arc<dyn Marked>,
    id: Uuid,
}

impl Checked {
    /// The store of the installation `id`, in the server that `marked` is.
    #[must_use]
    pub fn new(store: Arc<dyn Projection>, marked: Arc<dyn Marked>, id: Uuid) -> Self {
        Self { store, marked, id }
    }
}

#[async_trait]
impl Projection for Checked {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        check_mark(&*self.marked, Some(self.id)).await?;
        self.store.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        self.store.apply(writes).await
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.store.fetch_documents(ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.store.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.store.counts().await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.store.check().await
    }
}
