//! The stores: how the engine writes to them and reads them back, and what they guarantee.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_model::document::{Document, Fingerprint};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use super::{ConflictFilter, ConflictRecord, EntryId, Fault, NewConflict, ResolvedPart};

/// A state that a store must hold from now on, unless it holds a newer one.
#[derive(Clone, Debug)]
pub struct Write {
    /// The chunk.
    pub id: Uuid,
    /// The version of the state.
    pub version: SyncVersion,
    /// The state; `None` deletes.
    pub state: Option<Arc<State>>,
    /// The version since which no vector has changed: a store that holds it, or a newer one, may leave its vectors as
    /// they are. It equals the version of the state if the vectors changed with it, or if that is not known.
    pub vectors_since: SyncVersion,
}

impl Write {
    /// About how many bytes the write takes in memory and in a message.
    #[must_use]
    pub fn weight(&self) -> usize {
        64 + self.state.as_ref().map_or(0, |state| state.chunk.weight())
    }
}

/// The result of one write.
#[derive(Clone, Debug)]
pub enum Applied {
    /// The store holds the state durably.
    Written,
    /// The store held that version or a newer one already; nothing was written.
    Skipped,
    /// The write failed; it may or may not have been executed, and can be repeated.
    Failed(Fault),
}

impl Applied {
    /// Whether the store holds this state or a newer one.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Written | Self::Skipped)
    }
}

/// What a store holds of a chunk, read back from it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFingerprint {
    /// The chunk.
    pub id: Uuid,
    /// The version in the store; zero if another program wrote the chunk there.
    pub version: SyncVersion,
    /// The fingerprint of the document, computed from the stored content.
    pub fingerprint: Fingerprint,
}

/// What a store holds of a chunk, with the document itself.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// The chunk.
    pub id: Uuid,
    /// The version in the store; zero if another program wrote the chunk there.
    pub version: SyncVersion,
    /// The document, rebuilt from the stored content.
    pub document: Document,
}

impl StoredDocument {
    /// The part of it that verification compares.
    #[must_use]
    pub fn seen(&self) -> StoredFingerprint {
        StoredFingerprint { id: self.id, version: self.version, fingerprint: self.document.fingerprint() }
    }
}

/// How much a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of chunks.
    pub chunks: u64,
    /// The numbers of other objects by name: `entities`, `entity_links`, `relations` in the graph.
    pub others: BTreeMap<&'static str, u64>,
}

/// One of the three stores.
///
/// - **Order**: a store never goes back. A write whose version is not above the one held changes nothing. A store that
///   removes deleted chunks forgets their versions too; the caller must then prevent an older write from reviving the
///   chunk.
/// - **Repetition**: any write may be repeated, also after its answer was lost.
/// - **Durability**: `Written` and `Skipped` mean that the state survives a crash of the store.
/// - **Batches**: each write of a batch succeeds or fails independently; ids in a batch are distinct.
#[async_trait]
pub trait Store: Send + Sync {
    /// Which of the stores this is.
    fn target(&self) -> Target;

    /// Creates what is missing (tables, collection, constraints), and fails if an object exists in another form. Safe
    /// to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Applies the writes; returns one result each, in their order.
    async fn apply(&self, writes: &[Write]) -> Vec<Applied>;

    /// Reads these chunks with their documents, in their order; `None` where the store does not hold the chunk.
    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault>;

    /// Reads these chunks as verification compares them.
    async fn fetch_fingerprints(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredFingerprint>>, Fault> {
        let looked = self.fetch_documents(ids).await?;
        Ok(looked.iter().map(|looked| looked.as_ref().map(StoredDocument::seen)).collect())
    }

    /// Reads the next chunks in ascending order of id (as bytes), from the first one above `after`, at most `limit`.
    /// Fewer than `limit` mean the end.
    async fn scan_fingerprints(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredFingerprint>, Fault>;

    /// The fingerprint that the store would return if it held `state`.
    fn expect(&self, state: &State) -> Fingerprint;

    /// Counts the chunks and other objects.
    async fn counts(&self) -> Result<Counts, Fault>;

    /// Succeeds if the store can be written to.
    async fn check(&self) -> Result<(), Fault>;
}

/// What the system of record holds of a chunk when its merge begins.
#[derive(Clone, Debug, Default)]
pub struct CurrentState {
    /// The record of the chunk.
    pub record: Option<Record>,
    /// The row.
    pub state: Option<Arc<State>>,
    /// The digest of the row when it was last written or seen, [`Commit::row`]: if the row has another digest now,
    /// another program wrote it.
    pub row: Option<Hash>,
}

/// The result of a merge: row, record, outbox entries and conflicts become durable together or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The chunk.
    pub id: Uuid,
    /// The new record.
    pub record: Record,
    /// The new row, `None` if the chunk is deleted.
    pub state: Option<Arc<State>>,
    /// Whether the row changes; if not, only the record is written.
    pub row_changed: bool,
    /// The digest of the new row, kept with the record; `None` if the chunk is deleted.
    pub row: Option<Hash>,
    /// The stores that are written later: each gets an entry with this version in its outbox.
    pub outbox: Vec<Target>,
    /// Parts whose open conflicts on the record are closed, before those of `conflicts` are added.
    pub decided: Vec<ResolvedPart>,
    /// The conflicts of this merge, in order: new entries of the record of conflicts.
    pub conflicts: Vec<NewConflict>,
}

/// What must still hold when a merge commits. A transaction that finds it changed commits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// The token of the lease under which this process works the stream; `None` where no lease is held.
    pub lease: Option<Uuid>,
    /// The version of the installation's set of stores that this process was started with; `None` where none is recorded.
    pub stores: Option<u64>,
}

impl Fence {
    /// Compares the recorded version of the set of stores with the one that this process was started with.
    ///
    /// # Errors
    /// A fault that is [outdated](Fault::outdated), with both values and the remedy.
    pub fn check_stores(&self, recorded: Option<u64>, context: &'static str) -> Result<(), Fault> {
        let Some(started) = self.stores.filter(|started| Some(*started) != recorded) else {
            return Ok(());
        };
        let recorded = recorded.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let message = format!(
            "the set of stores was changed: its version is {recorded} now, and this process was started with version \
             {started}; restart it with a configuration that names the stores of the installation"
        );
        Err(Fault::outdated(context, message))
    }
}

/// What one merge transaction covers.
#[derive(Clone, Copy, Debug)]
pub struct MergeScope<'a> {
    /// The chunks, each once.
    pub ids: &'a [Uuid],
    /// What must still hold when it commits.
    pub fence: &'a Fence,
    /// Entries of a bus in the same database: this transaction finishes them.
    pub finished: &'a [EntryId],
}

/// Decides on the chunks of a transaction: one [`CurrentState`] for each requested id, in that order. It may be called again if
/// the transaction has to be repeated.
pub type Decide<'a> = &'a (dyn Fn(Vec<CurrentState>) -> Vec<Commit> + Send + Sync);

/// A row of the system of record, as verification reads it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The chunk.
    pub id: Uuid,
    /// The version of its record; zero for a row that no merge has seen.
    pub version: SyncVersion,
    /// Whether the record states that the chunk exists; `None` without a record.
    pub lives: Option<bool>,
    /// The digest of the row when it was last written or seen, [`Commit::row`].
    pub seen: Option<Hash>,
    /// The row.
    pub state: Option<Arc<State>>,
}

/// An outbox entry: a state that has not been written to a store yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWrite {
    /// The chunk.
    pub id: Uuid,
    /// The store.
    pub target: Target,
    /// The version that the store must reach; the entry may already hold a newer one.
    pub version: SyncVersion,
}

/// The system of record: the rows, and beside each its record, its outbox entries and its conflicts, in one
/// transaction.
#[async_trait]
pub trait Records: Store {
    /// Reads row and record of every id under their locks, calls `decide` to merge, and writes its decisions, all in
    /// one transaction. Durable on return.
    ///
    /// If the fence has a token, the transaction locks the lease shared, then compares the token; if the lease has
    /// another token, the transaction commits nothing and fails with [`Busy`](super::FaultClass::Busy): the caller
    /// notices the loss when it renews the lease.
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault>;

    /// Merges without a fence, and finishes no entries.
    async fn merge(&self, ids: &[Uuid], decide: Decide<'_>) -> Result<(), Fault> {
        self.merge_in(MergeScope { ids, fence: &Fence::default(), finished: &[] }, decide).await
    }

    /// Reads the next rows and records in ascending order of id, from the first one above `after`, at most `limit`,
    /// including tombstones. Fewer than `limit` mean the end.
    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault>;

    /// Reads rows and records of these chunks, in their order; `None` where there is neither.
    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault>;

    /// Adds outbox entries for chunks that were merged before; a chunk that already has one keeps the greater version.
    ///
    /// Not fenced: a process that lost the lease does no harm here. An unnecessary entry costs one more write of the
    /// recorded state, which its version guards; an entry that the late write of an old holder made necessary is
    /// recorded in the same way.
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault>;

    /// Reads the outbox of a store, the oldest entries first, at most `limit`.
    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault>;

    /// Removes outbox entries that were written, unless their version has risen since.
    ///
    /// Not fenced: it is called after the store confirmed that version, which stays true regardless of the holder of
    /// the lease.
    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault>;

    /// The number of outbox entries of each store.
    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault>;

    /// Reads entries of the record of conflicts, the newest first, at most `limit`.
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<ConflictRecord>, Fault>;

    /// The number of entries that wait for a decision of an operator.
    async fn open_conflicts(&self) -> Result<u64, Fault>;

    /// Removes entries that were settled before that time, the oldest first, at most `limit`; returns their number.
    /// Open entries stay.
    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault>;

    /// Reads the entry of the record of conflicts with that number.
    async fn conflict(&self, id: u64) -> Result<Option<ConflictRecord>, Fault> {
        let filter = ConflictFilter { below: Some(id.saturating_add(1)), ..ConflictFilter::default() };
        Ok(self.conflicts(&filter, 1).await?.pop().filter(|entry| entry.id == id))
    }
}
