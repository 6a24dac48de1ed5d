//! Reads a store to its end.

use chunk_sync_engine::ports::{Projection, StoredDocument};
use uuid::Uuid;

/// Every document of the store, page by page.
pub async fn scanned(store: &dyn Projection) -> Vec<StoredDocument> {
    scanned_after(store, None).await
}

/// Every document above `after`.
pub(crate) async fn scanned_after(store: &dyn Projection, mut after: Option<Uuid>) -> Vec<StoredDocument> {
    let mut found = Vec::new();
    loop {
        let page = store.scan(after, 1000).await.unwrap();
        after = page.documents.last().map(|document| document.id).or(after);
        found.extend(page.documents);
        if page.is_last {
            return found;
        }
    }
}
