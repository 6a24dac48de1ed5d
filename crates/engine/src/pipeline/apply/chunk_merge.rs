//! The merge of one chunk: first what other programs wrote into the row, then direct writes in the stores, then the
//! operations in their order.
//!
//! If the row of a living chunk is absent and nothing shows that it was deleted, the chunk is *unseen*: its record merges
//! the operations, and row and stores stay as they are.

use std::sync::Arc;

use chunk_sync_model::merge::{Change, Effect, expire, merge, merge_unseen, reassemble, refusal, set_since};
use chunk_sync_model::{Hash, Record, State, SyncVersion, Time, Writer};
use uuid::Uuid;

use crate::pipeline::apply::conflict_notes::ConflictNotes;
use crate::pipeline::apply::direct_write::{self, MergeState};
use crate::pipeline::apply::external_change::{Written, detect_external_change, digest};
use crate::pipeline::apply::merge_context::{MergeContext, Outcome};
use crate::pipeline::apply::sight::{self, Sight};
use crate::pipeline::apply::written::written;
use crate::pipeline::envelope::Operation;
use crate::ports::{AbsenceNote, Commit, CurrentState, Fault, FaultClass, NoteChange, Write};

/// A chunk while its operations are merged.
pub(super) struct ChunkMerge<'a> {
    id: Uuid,
    context: MergeContext<'a>,
    /// The version of the record before the merge.
    before: SyncVersion,
    /// The row before the merge, and its digest.
    row: Option<Arc<State>>,
    row_digest: Option<Hash>,
    record: Option<Record>,
    state: Option<Arc<State>>,
    vectors_changed: bool,
    /// Whether the other stores are sent the result.
    propagate: bool,
    notes: ConflictNotes,
    direct: Vec<Writer>,
    repeated: u64,
    unseen: bool,
    /// The digest of a row that cannot be seen, when it was last written or seen: it may show again.
    unseen_row: Option<Hash>,
    absence: NoteChange,
}

impl<'a> ChunkMerge<'a> {
    /// Merges what the row and the stores hold that no operation of the service wrote there.
    pub(super) fn new(
        id: Uuid,
        current: CurrentState,
        operations: &[&Operation],
        context: MergeContext<'a>,
    ) -> ChunkMerge<'a> {
        let direct = direct_write::found(
            context.snapshots.get(&id),
            current.record.as_ref(),
            current.state.as_deref(),
            (&context.settings.strategies, &context.settings.limits),
            Time::from_micros(context.now.at.micros().saturating_add(context.now.max_ahead)),
        );
        let mut merge = Self {
            id,
            context,
            before: current.record.as_ref().map(|record| record.version).unwrap_or_default(),
            row: current.state.clone(),
            row_digest: digest(current.state.as_deref()),
            record: None,
            state: None,
            vectors_changed: false,
            propagate: false,
            notes: ConflictNotes::new(context.now.at),
            direct: Vec::new(),
            repeated: 0,
            unseen: false,
            unseen_row: None,
            absence: NoteChange::Keep,
        };
        match sight::of(&current, operations) {
            Sight::Unseen => merge.unseen(current),
            Sight::Clear | Sight::Deleted => merge.seen(current, operations),
        }
        for direct in &direct {
            merge.direct(direct);
        }
        merge
    }

    /// Nothing shows what became of the row.
    fn unseen(&mut self, current: CurrentState) {
        let newest = current.record.as_ref().map(Record::newest_change).unwrap_or(Time::from_micros(0));
        self.absence = NoteChange::Note { newest, at: self.context.now.at };
        (self.unseen, self.unseen_row) = (true, current.row);
        self.record = current.record;
    }

    /// The row is there, or it was deleted, or there has been none. A note on it has served its purpose.
    fn seen(&mut self, current: CurrentState, operations: &[&Operation]) {
        let (note, absent, row) = (current.absence, current.state.is_none(), current.row);
        let lived = current.record.as_ref().is_some_and(Record::lives);
        self.external(current, operations);
        let Some(note) = note else { return };
        if absent && !lived && !operations.iter().any(|operation| sight::is_captured_deletion(operation)) {
            // Deleted while its row could not be seen, which is still so: the row must not look like a new one later.
            self.unseen_row = row;
            return;
        }
        self.absence =
            if absent && note.approved { NoteChange::Deleted(self.context.now.at) } else { NoteChange::Remove };
        self.reassemble(note);
    }

    /// A row that shows again gets what was merged without it.
    fn reassemble(&mut self, note: AbsenceNote) {
        let Some(state) = self.state.clone().filter(|_| note.newest_change.is_some()) else { return };
        let merged = reassemble(self.record.take().unwrap_or_default(), &state, &self.context.settings.strategies);
        self.vectors_changed |= merged.vectors_changed;
        self.propagate |= merged.effect == Effect::Shown;
        (self.record, self.state) = (Some(merged.record), merged.state);
    }

    /// Merges the row as a change of its own if another program wrote it.
    fn external(&mut self, current: CurrentState, operations: &[&Operation]) {
        let written = written(operations, self.context.now);
        let current = self.deleted_before(current, operations, written);
        let since = current.absence.and_then(|note| note.newest_change);
        let unstated = match (&current.record, &current.state, since) {
            (Some(record), Some(state), Some(since)) => set_since(record, since, &state.chunk),
            _ => Vec::new(),
        };
        let strategies = &self.context.settings.strategies;
        match detect_external_change(self.id, current, self.row_digest, written, &unstated, strategies) {
            Ok(merged) => {
                self.notes.note(Writer::Postgres, merged.record.version, merged.decided, merged.conflicts);
                (self.record, self.state) = (Some(merged.record), merged.state);
                self.vectors_changed |= merged.vectors_changed;
                self.propagate = true;
            }
            Err(current) => (self.record, self.state) = (current.record, current.state),
        }
    }

    /// Merges a captured deletion whose row is back: a later transaction inserted it again, and so it is another row. What
    /// the deletion took away does not come back with it.
    ///
    /// A deletion that is delivered once more changes nothing: the record has its own, or the creation that came later. A
    /// row that is inserted again as it was is no change.
    fn deleted_before(&mut self, current: CurrentState, operations: &[&Operation], written: Written) -> CurrentState {
        let deletion = operations.iter().rfind(|operation| sight::is_captured_deletion(operation));
        let (Some(deletion), Some(record), Some(_)) = (deletion, &current.record, &current.state) else {
            return current;
        };
        let at = deletion.event.timestamp;
        if !record.lives() || record.existence_set_since(at) || self.row_digest == current.row {
            return current;
        }
        let gone = CurrentState { record: current.record.clone(), state: None, row: current.row, absence: None };
        let strategies = &self.context.settings.strategies;
        match detect_external_change(self.id, gone, None, Written { at, ..written }, &[], strategies) {
            Ok(merged) => {
                self.notes.note(Writer::Postgres, merged.record.version, merged.decided, merged.conflicts);
                self.vectors_changed = true;
                CurrentState { record: Some(merged.record), row: None, ..current }
            }
            Err(_) => current,
        }
    }

    fn direct(&mut self, direct: &chunk_sync_model::merge::Direct) {
        let settings = self.context.settings;
        let held = MergeState {
            record: self.record.take().unwrap_or_default(),
            state: self.state.take(),
            vectors_changed: self.vectors_changed,
        };
        let rules = (&settings.direct, &settings.strategies, &settings.limits);
        let merged = direct_write::resolve(self.id, direct, held, rules, &mut self.notes);
        (self.record, self.state) = (Some(merged.record), merged.state);
        self.vectors_changed = merged.vectors_changed;
        self.propagate = true;
        self.direct.push(direct.writer);
    }

    /// Merges one operation. A captured event is only the signal to read the row, which [`Self::new`] has done.
    ///
    /// # Errors
    /// The operation cannot be merged; it has changed nothing.
    pub(super) fn operation(&mut self, operation: &Operation) -> Result<(), Fault> {
        if self.unseen {
            return self.unseen_operation(operation);
        }
        if operation.is_signal() {
            // The row is as it was last written or read, and the stores were sent it then. If the signal may have been
            // carried before, the row is sent again.
            self.propagate |= operation.repeated || self.context.again || operation.is_fill();
            return Ok(());
        }
        let change = Change::from(&operation.event);
        self.check(&change)?;
        let merged = merge(self.record.take(), self.state.take(), &change, &self.context.settings.strategies);
        self.repeated += u64::from(merged.effect == Effect::Nothing);
        self.notes.note(operation.event.writer, merged.record.version, merged.decided, merged.conflicts);
        self.vectors_changed |= merged.vectors_changed;
        self.propagate = true;
        (self.record, self.state) = (Some(merged.record), merged.state);
        Ok(())
    }

    /// Merges one operation without the row. A signal has nothing to show; a `delete` event deletes.
    fn unseen_operation(&mut self, operation: &Operation) -> Result<(), Fault> {
        if operation.is_signal() {
            return Ok(());
        }
        let change = Change::from(&operation.event);
        self.check(&change)?;
        let record = self.record.take().unwrap_or_default();
        let merged = merge_unseen(record, &change, &self.context.settings.strategies);
        self.repeated += u64::from(merged.effect == Effect::Nothing);
        let mut record = merged.record;
        if !record.lives() {
            record.version = record.version.next(record.newest_change());
            // The note stays: if the row shows again, it is deleted.
            self.unseen = false;
            (self.propagate, self.vectors_changed) = (true, true);
        }
        self.notes.note(operation.event.writer, record.version, merged.decided, merged.conflicts);
        self.record = Some(record);
        Ok(())
    }

    fn check(&self, change: &Change<'_>) -> Result<(), Fault> {
        match refusal(self.record.as_ref(), change) {
            Some(invalid) => Err(Fault::new(FaultClass::Rejected, "merge", &invalid.message).at(&invalid.field)),
            None => Ok(()),
        }
    }

    /// Gives the chunk a newer version if one of the operations repairs it: a store skips a write that has no newer
    /// version, whatever it holds.
    pub(super) fn repair(&mut self, operations: &[&Operation]) {
        if self.unseen {
            return;
        }
        let repairs = operations.iter().filter(|operation| operation.is_repair());
        let Some(above) = repairs.map(|operation| operation.event.timestamp).max() else {
            return;
        };
        // A store may show a version above the record's. The signal's own time is bounded by the clock, because any
        // program can add one: how high the version must be, the stores state.
        let shown = self.context.snapshots.get(&self.id).into_iter().flatten().map(|(_, looked)| looked.version);
        let shown = shown.filter(|shown| *shown <= SyncVersion::HIGHEST_SHOWN).max();
        let record = self.record.get_or_insert_default();
        record.version = record.version.next(above);
        if let Some(shown) = shown.filter(|shown| *shown >= record.version) {
            record.version = shown.next(Time::from_micros(0));
        }
        (self.propagate, self.vectors_changed) = (true, true);
    }

    /// The commit; its consequences are added to `outcome`.
    pub(super) fn finish(self, outcome: &mut Outcome) -> Commit {
        let mut record = self.record.unwrap_or_default();
        if record.version > self.before && record.version < self.context.floor {
            record.version = self.context.floor;
        }
        record.stamp(self.context.now.at);
        let before = self.context.settings.expired_before(self.context.now.at);
        let strategies = &self.context.settings.strategies;
        // A row that cannot be seen may show again, with what the record then has to be compared with.
        if !self.unseen {
            record = expire(&record, self.state.as_deref(), strategies, before).unwrap_or(record);
        }
        let vectors_since = if self.vectors_changed { record.version } else { self.before };
        if self.propagate {
            let (version, state) = (record.version, self.state.clone());
            outcome.writes.push(Write { id: self.id, version, state, vectors_since });
        }
        outcome.conflicts.extend(self.notes.counts());
        outcome.repeated += self.repeated;
        outcome.direct.extend(self.direct);
        let row_changed = self.state != self.row;
        outcome.rows.extend(row_changed.then_some(self.id));
        // To hash a row costs more than to compare it.
        let row = if row_changed { digest(self.state.as_deref()) } else { self.row_digest };
        Commit {
            id: self.id,
            row: row.or(self.unseen_row),
            row_changed,
            state: self.state,
            outbox: if self.propagate { self.context.outbox.to_vec() } else { Vec::new() },
            decided: self.notes.decided,
            conflicts: self.notes.noted,
            absence: self.absence,
            record,
        }
    }
}
