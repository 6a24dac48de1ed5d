//! The stores: what each is asked to write, to read back, and to promise.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_model::document::{Document, Fingerprint};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use super::{ConflictFilter, Decided, EntryId, Fault, Met, Recorded};

/// A state that a store is to hold from now on, unless it holds a newer one.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which chunk.
    pub id: Uuid,
    /// The version of the state.
    pub version: SyncVersion,
    /// The state; `None` deletes.
    pub state: Option<Arc<State>>,
    /// Since this version no vector has changed: a store that holds it, or a newer one, may leave its vectors as they are.
    /// The version itself where they changed just now, or where that is not known.
    pub vectors_since: SyncVersion,
}

/// What a store answers to one write.
#[derive(Clone, Debug)]
pub enum Applied {
    /// It holds the state durably now.
    Written,
    /// It held that version or a newer one already, and was left as it is.
    Skipped,
    /// It could not; nothing is promised, and the write can be repeated.
    Failed(Fault),
}

impl Applied {
    /// Whether the store holds this state or a newer one.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Written | Self::Skipped)
    }
}

/// What a store really holds of a chunk, read back from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Which chunk.
    pub id: Uuid,
    /// The version that the store shows; zero where somebody else wrote the chunk there.
    pub version: SyncVersion,
    /// The fingerprint of the document made again from what is held.
    pub fingerprint: Fingerprint,
}

/// The same with the document itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// Which chunk.
    pub id: Uuid,
    /// The version that the store shows; zero where somebody else wrote the chunk there.
    pub version: SyncVersion,
    /// The document made again from what is held.
    pub document: Document,
}

impl Looked {
    /// What verification compares.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { id: self.id, version: self.version, fingerprint: self.document.fingerprint() }
    }
}

/// How much a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks.
    pub chunks: u64,
    /// Whatever else it holds, by name: `entities`, `entity_links`, `relations` in the graph.
    pub others: BTreeMap<&'static str, u64>,
}

/// One of the three stores.
///
/// - **Order**: a store never goes back. A write whose version is not above the one held changes nothing. Stores that
///   really delete forget the version with the chunk; that an older write does not revive it is the caller's to see to.
/// - **Repetition**: any write may come twice, also after its answer was lost.
/// - **Durability**: `Written` and `Skipped` mean that the state survives a crash of the store.
/// - **Batches**: each write of a batch succeeds or fails on its own; ids in a batch are distinct.
#[async_trait]
pub trait Store: Send + Sync {
    /// Which of the stores this is.
    fn target(&self) -> Target;

    /// Creates what is missing (tables, collection, constraints), and refuses what is there in another shape. Safe to
    /// repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Applies the writes; one answer each, in their order.
    async fn apply(&self, writes: &[Write]) -> Vec<Applied>;

    /// All that is held of these chunks, in their order; `None` where there is nothing.
    async fn look(&self, ids: &[Uuid]) -> Result<Vec<Option<Looked>>, Fault>;

    /// The same, for whoever only compares.
    async fn read(&self, ids: &[Uuid]) -> Result<Vec<Option<Seen>>, Fault> {
        let looked = self.look(ids).await?;
        Ok(looked.iter().map(|looked| looked.as_ref().map(Looked::seen)).collect())
    }

    /// The next chunks in ascending order of id (as bytes), from the first one above `after`, at most `limit`. Fewer than
    /// `limit` mean the end.
    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Seen>, Fault>;

    /// The fingerprint that the store would have if it held `state`.
    fn expect(&self, state: &State) -> Fingerprint;

    /// How much is held.
    async fn counts(&self) -> Result<Counts, Fault>;

    /// Answers as soon as the store can be written to.
    async fn check(&self) -> Result<(), Fault>;
}

/// What the system of record holds of a chunk when its merge begins.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The chunk's memory.
    pub record: Option<Record>,
    /// The row.
    pub state: Option<Arc<State>>,
    /// What was said of the row when it was last written or seen, [`Commit::row`]: where the row is another now, somebody
    /// else wrote it.
    pub row: Option<Hash>,
}

/// What a merge decided: row, record, debts and conflicts become durable together or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which chunk.
    pub id: Uuid,
    /// Its memory from now on.
    pub record: Record,
    /// The row from now on, `None` where the chunk is gone.
    pub state: Option<Arc<State>>,
    /// Whether the row is another than before; if not, only the record is written.
    pub row_changed: bool,
    /// The digest of the row from now on, kept with the record; `None` where the chunk is gone.
    pub row: Option<Hash>,
    /// The stores that are told later: each owes this version from now on.
    pub owed: Vec<Target>,
    /// Parts of which the conflicts that are open on the record are closed; those of `conflicts` come after.
    pub decided: Vec<Decided>,
    /// What was met, in order: new entries of the record of conflicts.
    pub conflicts: Vec<Met>,
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
    /// Compares the version of the set of stores that is recorded with the one that this process was started with.
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
             {started}. Start it again with a configuration that names the stores of the installation"
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
    /// Entries of a bus that lives beside the records: they are finished by this transaction.
    pub finished: &'a [EntryId],
}

/// Decides on the chunks of a transaction: one [`Held`] for each id asked for, in that order. May be called again where
/// the transaction had to be repeated.
pub type Decide<'a> = &'a (dyn Fn(Vec<Held>) -> Vec<Commit> + Send + Sync);

/// A row of the system of record, as verification reads it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which chunk.
    pub id: Uuid,
    /// The version of its record; zero for a row that no merge has seen.
    pub version: SyncVersion,
    /// Whether the record says that the chunk is there; `None` without a record.
    pub lives: Option<bool>,
    /// What was said of the row when it was last written or seen, [`Commit::row`].
    pub seen: Option<Hash>,
    /// The row itself.
    pub state: Option<Arc<State>>,
}

/// A state that a store has yet to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debt {
    /// Which chunk.
    pub id: Uuid,
    /// Which store.
    pub target: Target,
    /// The version owed, or a newer one.
    pub version: SyncVersion,
}

/// The system of record: the rows, and beside each its record, its debts and its conflicts, in one transaction.
#[async_trait]
pub trait Records: Store {
    /// Reads row and record of every id under their locks, has `decide` merge, and writes what it decided; all of it in
    /// one transaction. On return it is durable.
    ///
    /// Where the fence names a lease, the transaction locks the lease shared, then compares the token; with another token
    /// it commits nothing and answers [`Busy`](super::FaultClass::Busy): the caller finds out when it renews the lease.
    async fn merge_in(&self, scope: MergeScope<'_>, decide: Decide<'_>) -> Result<(), Fault>;

    /// The same without a fence, and finishing nothing.
    async fn merge(&self, ids: &[Uuid], decide: Decide<'_>) -> Result<(), Fault> {
        self.merge_in(MergeScope { ids, fence: &Fence::default(), finished: &[] }, decide).await
    }

    /// The next rows and records in ascending order of id, from the first one above `after`, at most `limit`; tombstones
    /// among them. Fewer than `limit` mean the end.
    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<Row>, Fault>;

    /// Rows and records of these chunks, in their order; `None` where there is neither.
    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault>;

    /// Records debts of chunks merged before; a chunk that already has one keeps the greater version.
    ///
    /// Not fenced: a process that lost the lease does no harm here. A debt that nobody needs costs one more write of the
    /// recorded state, which its version guards; a debt that the late write of an old holder made necessary is recorded
    /// just so.
    async fn owe(&self, debts: &[Debt]) -> Result<(), Fault>;

    /// Debts of a store, the oldest first, at most `limit`.
    async fn debts(&self, target: Target, limit: usize) -> Result<Vec<Debt>, Fault>;

    /// Strikes off debts that are paid, unless a newer version is owed by now.
    ///
    /// Not fenced: it is called after the store confirmed that version, which stays true whoever holds the lease.
    async fn paid(&self, debts: &[Debt]) -> Result<(), Fault>;

    /// How many debts each store has.
    async fn debt_counts(&self) -> Result<BTreeMap<Target, u64>, Fault>;

    /// Entries of the record of conflicts, the newest first, at most `limit`.
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<Vec<Recorded>, Fault>;

    /// How many of them wait for a person.
    async fn open_conflicts(&self) -> Result<u64, Fault>;

    /// Removes entries that were settled before that time, the oldest first, at most `limit`; how many there were. Open
    /// ones stay.
    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault>;

    /// The entry of the record of conflicts with that number.
    async fn conflict(&self, id: u64) -> Result<Option<Recorded>, Fault> {
        let filter = ConflictFilter { below: Some(id.saturating_add(1)), ..ConflictFilter::default() };
        Ok(self.conflicts(&filter, 1).await?.pop().filter(|entry| entry.id == id))
    }
}
