//! The system of record: the rows and their records, and the transaction in which a merge reads and writes them.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target};
use uuid::Uuid;

use super::{
    AbsenceLog, AbsenceNote, ConflictLog, Counts, EntryId, Erasures, Fault, FaultClass, IdleRecords, NewConflict,
    NoteChange, Outbox, ResolvedPart, WatchList,
};

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
    /// The note on its absent row.
    pub absence: Option<AbsenceNote>,
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
    /// What happens to the note on its absent row.
    pub absence: NoteChange,
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
    /// The row; `None` if there is none, or if it is too long.
    pub state: Option<Arc<State>>,
    /// Whether the row has more than `limits.row_max_bytes`: it is there, and was not read.
    pub oversize: bool,
}

impl Row {
    /// Whether the chunk lives and has no row.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.state.is_none() && !self.oversize && self.lives == Some(true)
    }
}

/// How a merge transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// Everything is durable.
    Durable,
    /// What the transaction relied on changed after it had read: another program added a row of these chunks, or a trigger
    /// was created. Nothing was written. The merge begins again, and then knows it.
    Overtaken,
}

/// A row that became another one than the merge wrote.
#[derive(Clone, Debug)]
pub struct Altered {
    /// The chunk.
    pub id: Uuid,
    /// The row as it is stored.
    pub state: Arc<State>,
}

/// What became of the rows that a merge transaction wrote.
#[derive(Clone, Debug)]
#[must_use]
pub enum RowsWritten {
    /// They are written, these in another form: a trigger, a default or a type altered them.
    Stored(Vec<Altered>),
    /// As [`Committed::Overtaken`].
    Overtaken,
}

/// A page of rows.
#[derive(Clone, Debug, Default)]
pub struct RowPage {
    /// The rows, in ascending order of id.
    pub rows: Vec<Row>,
    /// Whether there was no further row.
    pub is_last: bool,
}

/// The most bytes of rows that one call reads. A row that has more is read alone. Rows are as long as their application
/// makes them, up to `limits.row_max_bytes`: a number of rows bounds nothing.
pub const READ_BYTES: usize = 8 << 20;

/// How many of the first rows, of these lengths in bytes, are read by one call.
#[must_use]
pub fn read_together(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes: usize = 0;
    let mut fits = |length: &usize| {
        bytes = bytes.saturating_add(*length);
        bytes <= READ_BYTES
    };
    lengths.enumerate().take_while(|(place, length)| fits(length) || *place == 0).count()
}

/// Reads all of these rows, in parts of bounded size, and returns what `keep` takes of each, in their order. `keep` gets
/// the index of the chunk, and should not keep the state.
///
/// # Errors
/// The fault of the system of record.
pub async fn each_row<T: Send>(
    records: &dyn SystemOfRecord,
    ids: &[Uuid],
    mut keep: impl FnMut(usize, Option<Row>) -> T + Send,
) -> Result<Vec<T>, Fault> {
    let mut kept = Vec::with_capacity(ids.len());
    while let rest @ [_, ..] = &ids[kept.len()..] {
        let rows = records.rows_of(rest).await?;
        if rows.is_empty() {
            return Err(unanswered());
        }
        for row in rows {
            kept.push(keep(kept.len(), row));
        }
    }
    Ok(kept)
}

/// Reads the records of all of these chunks, in their order.
///
/// # Errors
/// The fault of the system of record.
pub async fn each_record(records: &dyn SystemOfRecord, ids: &[Uuid]) -> Result<Vec<Option<Record>>, Fault> {
    let mut kept = Vec::with_capacity(ids.len());
    while let rest @ [_, ..] = &ids[kept.len()..] {
        let current = records.current(rest).await?;
        if current.is_empty() {
            return Err(unanswered());
        }
        kept.extend(current.into_iter().map(|current| current.record));
    }
    Ok(kept)
}

fn unanswered() -> Fault {
    Fault::new(FaultClass::Corrupt, "read rows", "the system of record did not answer for a chunk")
}

/// A merge transaction: it holds the locks of its chunks. If it is dropped, nothing is written and the locks are
/// released.
///
/// The server ends a transaction that stays open for longer than about a second without a statement; its commit then
/// fails, and nothing is written.
#[async_trait]
pub trait MergeTransaction: Send {
    /// Moves out what the transaction read: one state per id of its scope, in their order. Empty on a second call.
    fn current(&mut self) -> Vec<CurrentState>;

    /// Writes the rows of the commits, and nothing else of them, and reports which rows are stored in another form. The
    /// caller then commits those forms, so that the record and the other stores know the row as it is. If the database
    /// stores rows as they are written, this may be left to the commit, which verifies it: see [`Committed::Overtaken`].
    ///
    /// A write that the database skips is a fault of the class [`Rejected`](super::FaultClass::Rejected), unless the row
    /// is as wanted without it.
    async fn write(&mut self, commits: &[Commit]) -> Result<RowsWritten, Fault>;

    /// Writes what [`write`](Self::write) has not written of the commits, finishes the entries of its scope, and commits.
    /// Commits for other chunks than those of its scope are not allowed.
    async fn commit(self: Box<Self>, commits: Vec<Commit>) -> Result<Committed, Fault>;
}

/// The rows, and beside each its record. A [`Commit`] writes both, with the outbox entries and conflicts of the merge,
/// in one transaction.
#[async_trait]
pub trait SystemOfRecord: Send + Sync {
    /// Creates what is missing (schema, tables), and fails if an object exists in another form. Safe to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Fails if the database takes no writes now, with the remedy. What can only wait for a merge then is not published.
    async fn takes_writes(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Begins a merge: locks the chunks, checks the fence, and reads row and record of every chunk.
    ///
    /// If the fence has a token, the transaction locks the lease shared, then compares the token; if the lease has
    /// another token, it fails with [`Busy`](super::FaultClass::Busy): the caller notices the loss when it renews the
    /// lease.
    async fn begin(&self, scope: MergeScope<'_>) -> Result<Box<dyn MergeTransaction + '_>, Fault>;

    /// Which of these rows another program locks now. The answer only decides what is merged apart: a moment later it
    /// may be another one. Empty if that is not known.
    async fn locked_rows(&self, _ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
        Ok(Vec::new())
    }

    /// Reads row and record of the first of these chunks, in their order, from one snapshot and without locks: as many
    /// as have [`READ_BYTES`] together, and at least one.
    async fn current(&self, ids: &[Uuid]) -> Result<Vec<CurrentState>, Fault>;

    /// Reads the next rows and records in ascending order of id, from the first one above `after`, including tombstones:
    /// at most `limit`, and as many as have [`READ_BYTES`] together.
    async fn rows(&self, after: Option<Uuid>, limit: usize) -> Result<RowPage, Fault>;

    /// Reads rows and records of the first of these chunks, in their order, as many as have [`READ_BYTES`] together, and
    /// at least one; `None` where there is neither. [`each_row`] reads all of them.
    async fn rows_of(&self, ids: &[Uuid]) -> Result<Vec<Option<Row>>, Fault>;

    /// Counts the rows.
    async fn counts(&self) -> Result<Counts, Fault>;
}

/// What one database holds together: rows and records, their outbox and their conflicts.
pub trait Records: SystemOfRecord + Outbox + ConflictLog + AbsenceLog + IdleRecords + Erasures + WatchList {}

impl<T: SystemOfRecord + Outbox + ConflictLog + AbsenceLog + IdleRecords + Erasures + WatchList + ?Sized> Records
    for T
{
}
