//! Which deletions are real. A chunk leaves a store only if its record states that it is deleted, and a record states that
//! only if a writer deleted the chunk: absence is not deletion.

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_engine::ports::{Commit, StoredDocument, Write};
use chunk_sync_model::{ChangeVersion, Event, EventType, Part, Record, SyncVersion, Target, Writer};
use uuid::Uuid;

/// What the oracle knows about deletions.
#[derive(Default)]
pub(super) struct Deletions {
    /// The versions under which the record of a chunk states that the chunk is deleted.
    gone: BTreeSet<(Uuid, SyncVersion)>,
    /// Chunks without a row in a table that the operator adopted, or without a record after a restore: the operator may
    /// have them deleted.
    given_up: BTreeSet<Uuid>,
}

impl Deletions {
    pub(super) fn give_up(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        self.given_up.extend(ids);
    }

    pub(super) fn is_given_up(&self, id: Uuid) -> bool {
        self.given_up.contains(&id)
    }

    /// Notes the deletion that a merge recorded, if it did; an error if no writer deleted the chunk.
    pub(super) fn recorded<'a>(
        &mut self,
        commit: &Commit,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<(), String> {
        let (id, record) = (commit.id, &commit.record);
        let Some(deletion) = deletion(record) else { return Ok(()) };
        self.gone.insert((id, record.version));
        let is_it = |event: &Event| {
            let same = (event.kind, event.writer, event.time()) == (EventType::Delete, deletion.writer, deletion.time);
            same && event.chunk_id() == id
        };
        let decided = deletion.writer == Writer::Postgres && self.is_given_up(id);
        match decided || events.into_iter().any(is_it) {
            true => Ok(()),
            false => Err(format!("{id} was deleted by {} at {}, which it never did", deletion.writer, deletion.time)),
        }
    }

    /// An error if the write took a living chunk out of the store.
    pub(super) fn left(
        &self,
        target: Target,
        write: &Write,
        (before, after): (Option<&StoredDocument>, Option<&StoredDocument>),
    ) -> Result<(), String> {
        let left = before.is_some() && after.is_none();
        let may_leave = self.is_given_up(write.id) || self.gone.contains(&(write.id, write.version));
        match left && !may_leave {
            true => Err(format!("{} left {target} under {}; it lives", write.id, write.version)),
            false => Ok(()),
        }
    }
}

/// The newest deletion, if it decides that the chunk does not exist.
fn deletion(record: &Record) -> Option<ChangeVersion> {
    let settings: BTreeMap<ChangeVersion, bool> = record
        .writers
        .iter()
        .filter_map(|(writer, history)| Some((*writer, history.parts.get(&Part::Existence)?.last()?)))
        .map(|(writer, set)| (ChangeVersion { time: set.time, writer, count: set.count }, set.hash.is_some()))
        .collect();
    settings.last_key_value().filter(|(_, exists)| !**exists).map(|(version, _)| *version)
}
