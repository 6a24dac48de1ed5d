//! Merges as tests write them: in one call, with a closure that decides.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Commit, Committed, Counts, CurrentState, DocumentPage, Fault, FaultClass, Fence, MergeScope, NoteChange,
    Projection, Row, RowPage, StoredDocument, SystemOfRecord, Write,
};
use chunk_sync_model::document::{Document, row_fingerprint};
use chunk_sync_model::{Record, State, Target};
use uuid::Uuid;

/// Decides on the chunks of a merge: one state per id, in their order.
pub type Decide<'a> = &'a (dyn Fn(Vec<CurrentState>) -> Vec<Commit> + Send + Sync);

/// Whole merges, and reads of rows as those of a store.
#[async_trait]
pub trait Merging: SystemOfRecord {
    /// Begins, decides and commits; begins again while it is overtaken.
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault> {
        loop {
            let mut transaction = self.begin(scope).await?;
            let commits = decide(transaction.current());
            if transaction.commit(commits).await? == Committed::Durable {
                return Ok(());
            }
        }
    }

    /// Merges without a fence, and finishes no entries.
    async fn merge(&self, ids: &[Uuid], decide: Decide<'_>) -> Result<(), Fault> {
        self.merge_in(MergeScope { ids, fence: &Fence::default(), finished: &[] }, decide).await
    }

    /// Writes states the way a store does, guarded by the version in the record: in one merge, or one by one if a write is
    /// rejected.
    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        match apply_together(self, writes).await {
            Ok(applied) => applied,
            Err(fault) if fault.class == FaultClass::Rejected && writes.len() > 1 => {
                let mut applied = Vec::with_capacity(writes.len());
                for write in writes {
                    let alone = apply_together(self, std::slice::from_ref(write)).await;
                    applied.extend(alone.unwrap_or_else(|fault| vec![Applied::Failed(fault)]));
                }
                applied
            }
            Err(fault) => vec![Applied::Failed(fault); writes.len()],
        }
    }

    /// The rows of these chunks as a store returns them.
    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let mut found = Vec::with_capacity(ids.len());
        while found.len() < ids.len() {
            found.extend(self.rows_of(&ids[found.len()..]).await?.into_iter().map(|row| row.and_then(stored)));
        }
        Ok(found)
    }

    /// A page of rows as a store returns them; it is shorter than the limit only at the end.
    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let (mut after, mut documents) = (after, Vec::new());
        while documents.len() < limit {
            let RowPage { rows, is_last } = self.rows(after, limit).await?;
            after = rows.last().map(|row| row.id).or(after);
            documents.extend(rows.into_iter().filter_map(stored));
            if is_last {
                break;
            }
        }
        documents.truncate(limit);
        Ok(DocumentPage { is_last: documents.len() < limit, documents })
    }

    /// A row with this state.
    fn expect(&self, state: &State) -> Document {
        Document::Row(Arc::new(state.clone()))
    }
}

impl<T: SystemOfRecord + ?Sized> Merging for T {}

async fn apply_together<R: Merging + ?Sized>(records: &R, writes: &[Write]) -> Result<Vec<Applied>, Fault> {
    let ids: Vec<Uuid> = writes.iter().map(|write| write.id).collect();
    let answers = std::sync::Mutex::new(Vec::new());
    let decide = |current: Vec<CurrentState>| {
        let decided = writes.iter().zip(current).map(|(write, current)| guarded(write, current));
        let (applied, commits): (Vec<_>, Vec<_>) = decided.unzip();
        *answers.lock().unwrap() = applied;
        commits.into_iter().flatten().collect()
    };
    records.merge(&ids, &decide).await?;
    Ok(answers.into_inner().unwrap())
}

fn stored(row: Row) -> Option<StoredDocument> {
    Some(StoredDocument { id: row.id, version: row.version, document: Document::Row(row.state?) })
}

/// The rows of a system of record as a store, for the contract of every store.
#[derive(Clone)]
pub struct RowsAsStore(pub Arc<dyn SystemOfRecord>);

#[async_trait]
impl Projection for RowsAsStore {
    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        self.0.apply(writes).await
    }

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
        Ok(())
    }
}

/// Of the record only the version changes.
fn guarded(write: &Write, current: CurrentState) -> (Applied, Option<Commit>) {
    let mut record = current.record.unwrap_or_default();
    if record.version >= write.version {
        return (Applied::Skipped, None);
    }
    record.version = write.version;
    (Applied::Written, Some(commit(write.id, record, write.state.clone())))
}

/// A commit of this record and row, without outbox entries and conflicts.
#[must_use]
pub fn commit(id: Uuid, record: Record, state: Option<Arc<State>>) -> Commit {
    let row = state.as_ref().map(|state| row_fingerprint(state).digest());
    Commit {
        id,
        record,
        state,
        row_changed: true,
        row,
        outbox: Vec::new(),
        decided: Vec::new(),
        conflicts: Vec::new(),
        absence: NoteChange::Keep,
    }
}
