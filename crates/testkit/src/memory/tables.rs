//! The tables of the system of record in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chunk_sync_engine::ports::{
    Commit, ConflictRecord, CurrentState, Fault, Fence, Installed, NewConflict, PendingWrite, Position, ResolvedPart,
    Row,
};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Target, Time};
use uuid::Uuid;

use super::absence::Notes;

#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) rows: BTreeMap<Uuid, Arc<State>>,
    /// Each with the last known hash of its row.
    pub(super) records: BTreeMap<Uuid, (Record, Option<Hash>)>,
    /// The outbox: the version to write, and the number of the entry.
    pub(super) pending_writes: BTreeMap<(Target, Uuid), (u64, SyncVersion)>,
    /// How many outbox entries there have been.
    enqueued: u64,
    /// The conflicts, the oldest first.
    pub(super) conflicts: Vec<ConflictRecord>,
    /// How many conflicts there have been.
    conflicts_ever: u64,
    pub(super) installed: Option<Installed>,
    pub(super) notes: Notes,
    /// Rows that the service cannot see.
    pub(super) hidden: BTreeSet<Uuid>,
    /// The rows of the table on record, while another table bears its name.
    pub(super) renamed: Option<BTreeMap<Uuid, Arc<State>>>,
    pub(super) is_read_only: bool,
}

impl Tables {
    pub(super) fn check(&self, fence: &Fence) -> Result<(), Fault> {
        fence.check_stores(self.installed.as_ref().map(|installed| installed.version), "memory: merge")
    }

    pub(super) fn held(&self, id: Uuid) -> CurrentState {
        let state = self.visible(id);
        let (record, row) = self.records.get(&id).cloned().map_or((None, None), |(record, row)| (Some(record), row));
        CurrentState { record, state, row, absence: self.notes.note(id) }
    }

    /// The row, unless something hides it.
    pub(super) fn visible(&self, id: Uuid) -> Option<Arc<State>> {
        self.rows.get(&id).filter(|_| !self.hidden.contains(&id)).cloned()
    }

    pub(super) fn set_row(&mut self, id: Uuid, state: Option<Arc<State>>) {
        match state {
            Some(state) => self.rows.insert(id, state),
            None => self.rows.remove(&id),
        };
    }

    pub(super) fn store(&mut self, commit: Commit) {
        let (id, version) = (commit.id, commit.record.version);
        self.notes.commit(&commit, Position(0));
        if commit.row_changed {
            self.set_row(id, commit.state);
        }
        self.records.insert(id, (commit.record, commit.row));
        for target in commit.outbox {
            self.enqueue(PendingWrite { id, target, version });
        }
        commit.decided.iter().for_each(|decided| self.close(id, decided));
        commit.conflicts.into_iter().for_each(|noted| self.enter(id, noted));
    }

    fn close(&mut self, chunk: Uuid, decided: &ResolvedPart) {
        let of = |entry: &&mut ConflictRecord| entry.chunk == chunk && entry.noted.conflict.part == decided.part;
        for entry in self.conflicts.iter_mut().filter(of).filter(|entry| entry.noted.is_open()) {
            entry.noted.closed = Some(decided.closed);
        }
    }

    fn enter(&mut self, chunk: Uuid, noted: NewConflict) {
        self.conflicts_ever += 1;
        self.conflicts.push(ConflictRecord { id: self.conflicts_ever, chunk, noted });
    }

    pub(super) fn forget_conflicts(&mut self, before: Time, limit: usize) -> usize {
        let old = |entry: &&ConflictRecord| entry.noted.settled_at().is_some_and(|at| at < before);
        let mut old: Vec<_> =
            self.conflicts.iter().filter(old).map(|entry| (entry.noted.settled_at(), entry.id)).collect();
        old.sort_unstable();
        old.truncate(limit);
        self.conflicts.retain(|entry| !old.iter().any(|(_, id)| *id == entry.id));
        old.len()
    }

    pub(super) fn enqueue(&mut self, pending_write: PendingWrite) {
        self.enqueued += 1;
        let (_, outbox) = self
            .pending_writes
            .entry((pending_write.target, pending_write.id))
            .or_insert((self.enqueued, pending_write.version));
        *outbox = pending_write.version.max(*outbox);
    }

    pub(super) fn drained(&mut self, pending_write: PendingWrite) {
        let key = (pending_write.target, pending_write.id);
        if self.pending_writes.get(&key).is_some_and(|(_, outbox)| *outbox <= pending_write.version) {
            self.pending_writes.remove(&key);
        }
    }

    pub(super) fn pending_writes(&self, target: Target, limit: usize) -> Vec<PendingWrite> {
        let mut pending_writes: Vec<_> = self.pending_writes.iter().filter(|((of, _), _)| *of == target).collect();
        pending_writes.sort_by_key(|(_, (turn, _))| *turn);
        pending_writes
            .into_iter()
            .take(limit)
            .map(|((_, id), (_, version))| PendingWrite { id: *id, target, version: *version })
            .collect()
    }

    pub(super) fn row(&self, id: Uuid) -> Option<Row> {
        let (kept, state) = (self.records.get(&id), self.visible(id));
        let record = kept.map(|(record, _)| record);
        (record.is_some() || state.is_some()).then(|| Row {
            id,
            version: record.map(|record| record.version).unwrap_or_default(),
            lives: record.map(Record::lives),
            seen: kept.and_then(|(_, seen)| *seen),
            state,
            oversize: false,
        })
    }
}
