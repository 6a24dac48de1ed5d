//! The record of conflicts: what a merge adds to it, and how it is queried.

use async_trait::async_trait;
use chunk_sync_model::merge::{Conflict, Kind, Outcome, Strategy};
use chunk_sync_model::{Part, SyncVersion, Time, Writer};
use serde::Serialize;
use uuid::Uuid;

use super::Fault;

/// A conflict as the merge found it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewConflict {
    /// The time of the merge.
    #[serde(rename = "met_at")]
    pub at: Time,
    /// The version of the result of the merge.
    pub sync_version: SyncVersion,
    /// How the conflict was closed, if it had been left open.
    pub closed: Option<Resolution>,
    /// The four sides, and the outcome.
    #[serde(flatten)]
    pub conflict: Conflict,
}

/// How an open conflict was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// When the change that closed it was merged.
    pub at: Time,
    /// The writer of that change: usually an operator; another writer if it deleted the chunk or withdrew its value.
    pub by: Writer,
}

/// A part that waits for no decision any more: its open entries on the record are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPart {
    /// The part.
    pub part: Part,
    /// The writer and the time.
    pub closed: Resolution,
}

/// An entry of the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConflictRecord {
    /// The number of the entry, ascending in the order of recording.
    pub id: u64,
    /// The chunk.
    pub chunk: Uuid,
    /// The conflict.
    #[serde(flatten)]
    pub noted: NewConflict,
}

impl NewConflict {
    /// Whether the entry waits for a decision of an operator.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.conflict.outcome == Outcome::Open && self.closed.is_none()
    }

    /// When nothing was left to decide; `None` while the entry waits.
    #[must_use]
    pub fn settled_at(&self) -> Option<Time> {
        match self.closed {
            Some(closed) => Some(closed.at),
            None => (!self.is_open()).then_some(self.at),
        }
    }
}

/// The most bytes of JSON that a page of conflicts has. An entry holds four sides, each with a whole part, and a part may
/// have a megabyte.
pub const CONFLICT_PAGE_BYTES: usize = 16 << 20;

/// Some entries of the record, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConflictPage {
    /// The entries. Empty only if none match.
    pub entries: Vec<ConflictRecord>,
    /// Whether older entries match. They are below the last one of this page.
    pub more: bool,
}

impl ConflictPage {
    /// Takes entries, each with its bytes of JSON, until it has `limit` of them or the last one brings it to
    /// [`CONFLICT_PAGE_BYTES`].
    ///
    /// # Errors
    /// The first error among the entries.
    pub fn fill<E>(
        limit: usize,
        entries: impl IntoIterator<Item = Result<(ConflictRecord, usize), E>>,
    ) -> Result<Self, E> {
        let (mut page, mut bytes) = (Self::default(), 0);
        for found in entries {
            let (entry, size) = found?;
            if page.entries.len() == limit || bytes >= CONFLICT_PAGE_BYTES {
                page.more = true;
                break;
            }
            bytes += size;
            page.entries.push(entry);
        }
        Ok(page)
    }

    /// The number below which the next page begins; `None` if there is none.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.entries.last().filter(|_| self.more).map(|entry| entry.id)
    }
}

/// Selects entries of the record: those that match every field that is set.
#[derive(Clone, Debug, Default)]
pub struct ConflictFilter {
    /// The chunk.
    pub chunk: Option<Uuid>,
    /// The kind of the part.
    pub kind: Option<Kind>,
    /// The strategy that decided.
    pub strategy: Option<Strategy>,
    /// The outcome.
    pub outcome: Option<Outcome>,
    /// One of the two writers.
    pub writer: Option<Writer>,
    /// Only entries that wait for a decision of an operator.
    pub open: bool,
    /// Merged at this time or later.
    pub since: Option<Time>,
    /// With a number below this one: the continuation of a page.
    pub below: Option<u64>,
}

impl ConflictFilter {
    /// Whether the entry matches.
    #[must_use]
    pub fn fits(&self, entry: &ConflictRecord) -> bool {
        let (noted, conflict) = (&entry.noted, &entry.noted.conflict);
        let of = |writer| [conflict.source.writer, conflict.target.writer].contains(&Some(writer));
        self.chunk.is_none_or(|chunk| chunk == entry.chunk)
            && self.kind.is_none_or(|kind| kind == conflict.kind)
            && self.strategy.is_none_or(|strategy| strategy == conflict.strategy)
            && self.outcome.is_none_or(|outcome| outcome == conflict.outcome)
            && self.writer.is_none_or(of)
            && (!self.open || noted.is_open())
            && self.since.is_none_or(|since| noted.at >= since)
            && self.below.is_none_or(|below| entry.id < below)
    }
}

/// The conflicts of all merges. A merge adds entries with the row ([`Commit::conflicts`](super::Commit::conflicts)).
#[async_trait]
pub trait ConflictLog: Send + Sync {
    /// Reads entries, the newest first, at most `limit`. A page ends early with the entry that brings it to
    /// [`CONFLICT_PAGE_BYTES`].
    async fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> Result<ConflictPage, Fault>;

    /// The number of entries that wait for a decision of an operator.
    async fn open_conflicts(&self) -> Result<u64, Fault>;

    /// About the bytes of all entries, as they are stored; an upper bound while that is at most `enough`.
    async fn conflict_bytes(&self, enough: u64) -> Result<u64, Fault>;

    /// Removes entries that were closed before that time, the oldest first, at most `limit`; returns their number.
    /// Open entries stay.
    async fn forget_conflicts(&self, before: Time, limit: usize) -> Result<u64, Fault>;

    /// Reads the entry with that number.
    async fn conflict(&self, id: u64) -> Result<Option<ConflictRecord>, Fault> {
        let filter = ConflictFilter { below: Some(id.saturating_add(1)), ..ConflictFilter::default() };
        Ok(self.conflicts(&filter, 1).await?.entries.pop().filter(|entry| entry.id == id))
    }
}
