//! The writes of records, outbox, conflicts and notes of a merge, in few statements.

use chunk_sync_engine::ports::{Commit, PendingWrite};
use uuid::Uuid;

use super::conflicts::Entries;
use super::fault::Error;
use super::flight::{Flight, Parameter};
use super::outbox::outbox_columns;
use super::reserved::{Copies, Reserved};
use super::sql;

/// What a transaction writes beside the rows.
#[derive(Default)]
pub(super) struct Changes {
    records: RecordColumns,
    pending_writes: Vec<PendingWrite>,
    conflicts: Entries,
}

/// The records to write, as columns of parameters.
#[derive(Default)]
struct RecordColumns {
    ids: Vec<Uuid>,
    versions: Vec<i64>,
    live: Vec<bool>,
    records: Vec<Vec<u8>>,
    digests: Vec<Option<Vec<u8>>>,
    reserved: Vec<Option<String>>,
    stripped: Vec<bool>,
}

impl Changes {
    pub(super) fn of(commits: &[Commit], copies: &Copies) -> Result<Self, Error> {
        let mut changes = Self::default();
        for commit in commits {
            changes.record(commit, copies.get(&commit.id))?;
            let pending_write =
                |target: &_| PendingWrite { id: commit.id, target: *target, version: commit.record.version };
            changes.pending_writes.extend(commit.outbox.iter().map(pending_write));
            changes.conflicts.add(commit);
        }
        Ok(changes)
    }

    fn record(&mut self, commit: &Commit, copy: Option<&Reserved>) -> Result<(), Error> {
        let bytes = commit.record.encode().map_err(|error| Error::Record(commit.id, error))?;
        let columns = &mut self.records;
        columns.ids.push(commit.id);
        columns.versions.push(commit.record.version.signed());
        columns.live.push(commit.record.lives());
        columns.records.push(bytes);
        columns.digests.push(commit.row.map(|row| row.bytes().to_vec()));
        columns.reserved.push(copy.map(|copy| copy.value.to_string()));
        columns.stripped.push(copy.is_some_and(|copy| copy.stripped));
        Ok(())
    }

    /// Adds the statements that write all of it.
    pub(super) fn add(self, flight: &mut Flight) {
        let Self { records, pending_writes, conflicts } = self;
        if !records.ids.is_empty() {
            let RecordColumns { ids, versions, live, records, digests, reserved, stripped } = records;
            let columns: Vec<Parameter> = vec![
                Box::new(ids),
                Box::new(versions),
                Box::new(live),
                Box::new(records),
                Box::new(digests),
                Box::new(reserved),
                Box::new(stripped),
            ];
            flight.add(sql::SET_RECORDS, columns);
        }
        conflicts.add_to(flight);
        if !pending_writes.is_empty() {
            flight.add(sql::ENQUEUE, outbox_columns(&pending_writes));
        }
    }
}
