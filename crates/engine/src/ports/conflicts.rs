//! The record of conflicts: what a merge adds to it, and how it is looked up.

use chunk_sync_model::merge::{Conflict, Kind, Outcome, Strategy};
use chunk_sync_model::{Part, SyncVersion, Time, Writer};
use serde::Serialize;
use uuid::Uuid;

/// A conflict as it was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Met {
    /// When it was merged.
    #[serde(rename = "met_at")]
    pub at: Time,
    /// The version of what the merge came to.
    pub sync_version: SyncVersion,
    /// Who settled it, of one that was left open.
    pub closed: Option<Closed>,
    /// The four sides, and how it ended.
    #[serde(flatten)]
    pub conflict: Conflict,
}

/// How an open conflict ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// When that was merged.
    pub at: Time,
    /// Whose change it was: mostly an operator's; a writer's where it deleted the chunk or took its word back.
    pub by: Writer,
}

/// A part that waits for nobody any more: what is open of it on the record is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Which part.
    pub part: Part,
    /// By whom, and when.
    pub closed: Closed,
}

/// An entry of the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    /// Its number: a later entry has a greater one.
    pub id: u64,
    /// Which chunk.
    pub chunk: Uuid,
    /// What was met.
    #[serde(flatten)]
    pub met: Met,
}

impl Met {
    /// Whether it waits for a person.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.conflict.outcome == Outcome::Open && self.closed.is_none()
    }

    /// When nothing was left to decide; `None` while it waits.
    #[must_use]
    pub fn settled_at(&self) -> Option<Time> {
        match self.closed {
            Some(closed) => Some(closed.at),
            None => (!self.is_open()).then_some(self.at),
        }
    }
}

/// Which entries are wanted: those that everything fits which is set.
#[derive(Clone, Debug, Default)]
pub struct ConflictFilter {
    /// Of this chunk.
    pub chunk: Option<Uuid>,
    /// On a part of this kind.
    pub kind: Option<Kind>,
    /// Decided by this strategy.
    pub strategy: Option<Strategy>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// Between this writer and another.
    pub writer: Option<Writer>,
    /// That wait for a person.
    pub open: bool,
    /// Met then or later.
    pub since: Option<Time>,
    /// With a number below this: what follows on a page that ended there.
    pub below: Option<u64>,
}

impl ConflictFilter {
    /// Whether it is one of them.
    #[must_use]
    pub fn fits(&self, entry: &Recorded) -> bool {
        let (met, conflict) = (&entry.met, &entry.met.conflict);
        let of = |writer| [conflict.source.writer, conflict.target.writer].contains(&Some(writer));
        self.chunk.is_none_or(|chunk| chunk == entry.chunk)
            && self.kind.is_none_or(|kind| kind == conflict.kind)
            && self.strategy.is_none_or(|strategy| strategy == conflict.strategy)
            && self.outcome.is_none_or(|outcome| outcome == conflict.outcome)
            && self.writer.is_none_or(of)
            && (!self.open || met.is_open())
            && self.since.is_none_or(|since| met.at >= since)
            && self.below.is_none_or(|below| entry.id < below)
    }
}
