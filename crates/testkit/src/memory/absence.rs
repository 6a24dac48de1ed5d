//! The notes on absent rows in memory, and the faults of the field: rows that are hidden, another table, a restore.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    AbsenceCause, AbsenceCounts, AbsenceLog, AbsenceNote, AbsentRow, Approval, Commit, Deletions, Fault, Fence,
    NoteChange, Position, RecordedTable, Suspicion, Verdict,
};
use chunk_sync_model::Time;
use uuid::Uuid;

use super::MemoryRecords;
use super::store::above;

/// 24 hours in microseconds.
const DAY: i64 = 24 * 3600 * 1_000_000;

/// The tables of the notes.
#[derive(Clone, Default)]
pub(super) struct Notes {
    pub(super) absent: BTreeMap<Uuid, (AbsentRow, Option<Time>)>,
    deleted: Vec<Time>,
    values: BTreeSet<Uuid>,
    suspicion: Option<Suspicion>,
    /// What a comparison with the table on record finds.
    pub(super) table: Option<Suspicion>,
    /// The partitions of the table, and those on record.
    pub(super) partitions: Vec<u32>,
    pub(super) recorded_partitions: Vec<u32>,
    pub(super) captured: bool,
}

impl Notes {
    pub(super) fn note(&self, id: Uuid) -> Option<AbsenceNote> {
        let (noted, newest_change) = self.absent.get(&id)?;
        Some(AbsenceNote { newest_change: *newest_change, approved: noted.approved })
    }

    pub(super) fn commit(&mut self, commit: &Commit, position: Position) {
        match commit.absence {
            NoteChange::Keep => {}
            NoteChange::Note { newest, at } => {
                let noted = AbsentRow { position, ..noted(commit.id, AbsenceCause::Merge, at) };
                let (_, newest_change) = self.absent.entry(commit.id).or_insert((noted, None));
                newest_change.get_or_insert(newest);
            }
            NoteChange::Remove => drop(self.absent.remove(&commit.id)),
            NoteChange::Deleted(at) => {
                self.absent.remove(&commit.id);
                self.deleted.push(at);
            }
        }
    }

    fn deletions(&self, living: u64, at: Time) -> Deletions {
        let of =
            |wanted: fn(&AbsentRow) -> bool| self.absent.values().filter(|(noted, _)| wanted(noted)).count() as u64;
        let since = at.micros() - DAY;
        let deleted = self.deleted.iter().filter(|deleted| deleted.micros() > since).count() as u64;
        Deletions {
            confirmed: of(|noted| noted.confirmed && !noted.approved),
            recent: deleted + of(|noted| noted.approved),
            living,
        }
    }
}

fn noted(id: Uuid, cause: AbsenceCause, at: Time) -> AbsentRow {
    AbsentRow { id, cause, noted_at: at, position: Position(0), confirmed: false, approved: false }
}

#[async_trait]
impl AbsenceLog for MemoryRecords {
    fn is_captured(&self) -> bool {
        self.with_notes(|notes, _| notes.captured)
    }

    async fn note_absent(&self, ids: &[Uuid], cause: AbsenceCause, at: Time) -> Result<(), Fault> {
        self.with_notes(|notes, living| {
            for id in ids.iter().filter(|id| living.contains(*id)) {
                let (known, _) = notes.absent.entry(*id).or_insert_with(|| (noted(*id, cause, at), None));
                if cause.is_candidate() && !known.cause.is_candidate() {
                    (known.cause, known.noted_at) = (cause, at);
                }
            }
        });
        Ok(())
    }

    async fn absent_rows(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<AbsentRow>, Fault> {
        Ok(self.with_notes(|notes, _| {
            notes.absent.range(above(after)).take(limit).map(|(_, (noted, _))| noted.clone()).collect()
        }))
    }

    async fn confirm_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.with_notes(|notes, _| {
            for id in ids {
                if let Some((noted, _)) = notes.absent.get_mut(id).filter(|(noted, _)| noted.cause.is_candidate()) {
                    noted.confirmed = true;
                }
            }
        });
        Ok(())
    }

    async fn absent_rows_were_seen(&self, ids: &[Uuid], at: Time) -> Result<(), Fault> {
        self.with_notes(|notes, _| {
            for id in ids {
                if let Some((noted, _)) = notes.absent.get_mut(id) {
                    (noted.noted_at, noted.confirmed, noted.approved) = (at, false, false);
                }
            }
        });
        Ok(())
    }

    async fn forget_absent(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.with_notes(|notes, _| notes.absent.retain(|id, (noted, _)| noted.approved || !ids.contains(id)));
        Ok(())
    }

    async fn approve(&self, approval: Approval) -> Result<Verdict, Fault> {
        Ok(self.with_notes(|notes, living| {
            if let Some(suspicion) = notes.suspicion.clone().or_else(|| notes.table.clone()) {
                return Verdict::Suspended(suspicion);
            }
            let deletions = notes.deletions(living.len() as u64, approval.at);
            if !approval.forced && !deletions.within(approval.max_deletes) {
                return Verdict::OverLimit(deletions);
            }
            for (noted, _) in notes.absent.values_mut().filter(|(noted, _)| noted.confirmed) {
                noted.approved = true;
            }
            Verdict::Approved(deletions)
        }))
    }

    async fn absence_counts(&self, at: Time) -> Result<AbsenceCounts, Fault> {
        Ok(self.with_notes(|notes, living| {
            let of = notes.absent.values().filter(|(noted, _)| living.contains(&noted.id));
            let (noted, candidates) = of.fold((0, 0), |(noted, candidates), (row, _)| {
                (noted + 1, candidates + u64::from(row.cause.is_candidate()))
            });
            let hidden = if notes.captured { noted - candidates } else { 0 };
            AbsenceCounts { noted, candidates, hidden, deletions: notes.deletions(living.len() as u64, at) }
        }))
    }

    async fn check_table(&self) -> Result<RecordedTable, Fault> {
        Ok(self.with_notes(|notes, _| match notes.table.clone() {
            Some(suspicion) => RecordedTable::Suspect(suspicion),
            None if notes.partitions.len() > notes.recorded_partitions.len() => {
                RecordedTable::NewPartitions(notes.partitions.clone())
            }
            None => RecordedTable::Same,
        }))
    }

    async fn suspicion(&self) -> Result<Option<Suspicion>, Fault> {
        Ok(self.with_notes(|notes, _| notes.suspicion.clone()))
    }

    async fn suspect(&self, suspicion: &Suspicion, fence: &Fence) -> Result<(), Fault> {
        let mut tables = self.tables.lock().unwrap();
        tables.check(fence)?;
        tables.notes.suspicion.get_or_insert_with(|| suspicion.clone());
        Ok(())
    }

    async fn record_partitions(&self, partitions: &[u32]) -> Result<(), Fault> {
        self.with_notes(|notes, _| notes.recorded_partitions = partitions.to_vec());
        Ok(())
    }

    async fn record_table(&self, adopt: bool) -> Result<(), Fault> {
        if adopt {
            let mut tables = self.tables.lock().unwrap();
            (tables.notes.suspicion, tables.notes.table, tables.renamed) = (None, None, None);
        }
        Ok(())
    }

    async fn note_heartbeat(&self, value: Uuid) -> Result<(), Fault> {
        self.with_notes(|notes, _| notes.values.insert(value));
        Ok(())
    }

    async fn has_heartbeat(&self, value: Uuid) -> Result<bool, Fault> {
        Ok(self.with_notes(|notes, _| notes.values.contains(&value)))
    }
}
