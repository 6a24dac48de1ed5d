//! Absent rows: living chunks without a row that the service can see. A row disappears for many reasons: row level
//! security, another table behind the name, a detached partition, a restore. Absence alone is never a deletion.
//!
//! A chunk is noted when a merge or a comparison finds no row. A note leads to a deletion only if a deletion may have
//! been missed ([`AbsenceCause::is_candidate`]), a second look confirmed it, and the number of such deletions stays
//! within the limit ([`Deletions::within`]). The table on record, [`RecordedTable`], must still be the one that is read.

use async_trait::async_trait;
use chunk_sync_model::Time;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Fault, Fence, Position};

/// How the absence of a row was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AbsenceCause {
    /// A merge whose event was no captured deletion found no row.
    Merge,
    /// A comparison found no row, and capture has read the log without a gap.
    Compared,
    /// A comparison found no row after a gap in capture, or rows are not captured: a deletion may have been missed.
    Missed,
    /// The table was truncated, and more chunks than the limit allows have no row since.
    Truncated,
}

impl AbsenceCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Merge, Self::Compared, Self::Missed, Self::Truncated];

    /// Its name in tables and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Compared => "compared",
            Self::Missed => "missed",
            Self::Truncated => "truncated",
        }
    }

    /// Parses its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }

    /// Whether a deletion may have been missed. If not, capture would have reported it: then something hides the row,
    /// and the chunk is never deleted automatically.
    #[must_use]
    pub fn is_candidate(self) -> bool {
        matches!(self, Self::Missed | Self::Truncated)
    }
}

/// The note on the absent row of one chunk, as a merge reads it under the locks of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsenceNote {
    /// The newest change of the record before the first merge without the row; `None` if there was none.
    pub newest_change: Option<Time>,
    /// Whether the chunk is to be deleted if its row is still absent.
    pub approved: bool,
}

/// What a merge does to the note of its chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoteChange {
    /// It stays, if there is one.
    #[default]
    Keep,
    /// The chunk is noted with [`AbsenceCause::Merge`] and the position that the log has in this transaction, unless it
    /// is noted already.
    Note {
        /// The newest change of the record before this merge.
        newest: Time,
        /// When the merge was made.
        at: Time,
    },
    /// The note is removed: the row shows again, or the chunk is deleted.
    Remove,
    /// The note is removed, and the deletion counts as one that a comparison decided.
    Deleted(Time),
}

/// A noted chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentRow {
    /// The chunk.
    pub id: Uuid,
    /// How it was noticed.
    pub cause: AbsenceCause,
    /// When it was noted, by the clock of the process.
    pub noted_at: Time,
    /// The position of the log when it was noted; zero if rows are not captured.
    pub position: Position,
    /// Whether a second look found the row still absent.
    pub confirmed: bool,
    /// Whether the deletion is approved and not yet merged.
    pub approved: bool,
}

/// The numbers that decide whether absent rows are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletions {
    /// Confirmed candidates that are not approved yet.
    pub confirmed: u64,
    /// Deletions that comparisons decided within the last 24 hours, including approved ones that are not merged yet.
    pub recent: u64,
    /// Living chunks according to their records.
    pub living: u64,
}

/// Deletions that comparisons may decide within 24 hours: the configured number, else the greater of 10 and 1 % of the
/// living chunks, but never more than a tenth of them.
#[must_use]
pub fn max_deletes(configured: Option<u64>, living: u64) -> u64 {
    configured.unwrap_or_else(|| (living / 100).max(10).min(living / 10))
}

impl Deletions {
    /// Whether all confirmed candidates may be deleted. If not, none is.
    #[must_use]
    pub fn within(&self, configured: Option<u64>) -> bool {
        self.confirmed.saturating_add(self.recent) <= max_deletes(configured, self.living)
    }

    /// The confirmed candidates that are not deleted because of the limit.
    #[must_use]
    pub fn held(&self, configured: Option<u64>) -> u64 {
        if self.within(configured) { 0 } else { self.confirmed }
    }
}

/// The rule by which confirmed candidates are approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The current time; 24 hours before it the count of deletions begins.
    pub at: Time,
    /// `scrub.max_deletes`; `None` for the default, see [`max_deletes`].
    pub max_deletes: Option<u64>,
    /// An operator decided that the chunks are deleted: the limit does not apply.
    pub forced: bool,
}

/// The answer to [`AbsenceLog::approve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All confirmed candidates are approved.
    Approved(Deletions),
    /// None is approved: together with the recent deletions they exceed the limit.
    OverLimit(Deletions),
    /// None is approved: the table is not the one on record.
    Suspended(Suspicion),
}

/// Why absence proves nothing, until `init --adopt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// What differs from the table on record, with the values.
    pub text: String,
}

impl Suspicion {
    /// What the operator has to do.
    pub const REMEDY: &str =
        "once the right table with the right rows is in place, confirm it with `chunk-sync init --adopt`";
}

/// How many absent rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsenceCounts {
    /// All noted chunks.
    pub noted: u64,
    /// Chunks whose row something hides: capture has passed the position at which they were noted, and no gap can have
    /// swallowed their deletion.
    pub hidden: u64,
    /// Candidates for deletion, confirmed or not.
    pub candidates: u64,
    /// The numbers for the limit.
    pub deletions: Deletions,
}

/// Whether the table that is read is the one on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedTable {
    /// It is, or no table is recorded yet.
    Same,
    /// It is, and has partitions that are not recorded: they may hold rows that were never carried. The object ids of all
    /// partitions that it has.
    NewPartitions(Vec<u32>),
    /// It is not, or it lost a partition, or the database was restored.
    Suspect(Suspicion),
}

/// The notes on absent rows, and the table on record, kept beside the records of the chunks.
#[async_trait]
pub trait AbsenceLog: Send + Sync {
    /// Whether the changes of other programs to the rows are captured, and with them every deletion.
    fn is_captured(&self) -> bool;

    /// Notes living chunks whose row is absent. A chunk that is noted already keeps its time; a cause that is a
    /// candidate replaces one that is not.
    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault>;

    /// Reads the notes in ascending order of id, from the first one above `after`, at most `limit`.
    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault>;

    /// Records that a second look found these candidates still absent.
    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault>;

    /// Records that the rows of these chunks were seen at `at`: their notes count from then on, and neither a confirmation
    /// nor an approval from before counts. A row that vanishes again before it is merged gets both looks again.
    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault>;

    /// Removes notes, except approved ones.
    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault>;

    /// Approves all confirmed candidates or none, in one transaction that no other process can interleave: of several
    /// processes only one can use up the limit.
    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault>;

    /// Counts the notes.
    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault>;

    /// Compares the table with the one on record, and records a suspicion that it finds.
    async fn check_table(&self) -> Result<RecordedTable, Fault> {
        Ok(RecordedTable::Same)
    }

    /// The recorded suspicion.
    async fn suspicion(&self) -> Result<Option<Suspicion>, Fault> {
        Ok(None)
    }

    /// Records a suspicion, unless one is recorded. Fails like a merge with this fence if the set of stores was changed: a
    /// suspicion from before an adoption would outlive it.
    async fn suspect(&self, _suspicion: &Suspicion, _fence: &Fence) -> Result<(), Fault> {
        Ok(())
    }

    /// Records the table as it is now, without a suspicion. Changes nothing if a table is recorded, unless the operator
    /// adopts this one.
    async fn record_table(&self, _adopt: bool) -> Result<(), Fault> {
        Ok(())
    }

    /// Records these partitions of the table: those that it had before its rows were carried. One that was attached since
    /// is still a new one, and one that left since is still missed.
    async fn record_partitions(&self, _partitions: &[u32]) -> Result<(), Fault> {
        Ok(())
    }

    /// Inserts a random value, and removes those older than seven days.
    async fn note_heartbeat(&self, _value: Uuid) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether the value was inserted within the last seven days and is still there.
    async fn has_heartbeat(&self, _value: Uuid) -> Result<bool, Fault> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limit_is_a_hundredth_at_least_ten_and_at_most_a_tenth() {
        for (living, limit) in [(0, 0), (3, 0), (9, 0), (10, 1), (50, 5), (100, 10), (999, 10), (10_000, 100)] {
            assert_eq!(max_deletes(None, living), limit, "{living} living chunks");
        }
        assert_eq!(max_deletes(Some(7), 10_000), 7);
        assert_eq!(max_deletes(Some(0), 10_000), 0);
    }

    #[test]
    fn recent_deletions_use_up_the_limit() {
        let of = |confirmed, recent, living| Deletions { confirmed, recent, living };
        assert!(!of(1, 0, 3).within(None), "none of three");
        assert!(of(5, 0, 50).within(None) && !of(6, 0, 50).within(None));
        assert!(of(100, 0, 10_000).within(None) && !of(1, 100, 10_000).within(None));
        assert!(of(40, 60, 10_000).within(None) && !of(41, 60, 10_000).within(None));
        assert_eq!((of(6, 0, 50).held(None), of(5, 0, 50).held(None)), (6, 0));
    }

    #[test]
    fn only_missed_deletions_are_candidates() {
        let candidates: Vec<_> = AbsenceCause::ALL.into_iter().filter(|cause| cause.is_candidate()).collect();
        assert_eq!(candidates, [AbsenceCause::Missed, AbsenceCause::Truncated]);
        for cause in AbsenceCause::ALL {
            assert_eq!(AbsenceCause::parse(cause.as_str()), Some(cause));
        }
    }
}
