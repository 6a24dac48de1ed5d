//! The entries of the bus in memory, with who holds them.

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_engine::ports::{DeadLetter, Delivery, Depth, EntryId, Handover};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};

#[derive(Default)]
pub(super) struct Streams {
    /// The unfinished entries.
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) dead: BTreeMap<u64, Fields>,
    /// The processes that have not ended.
    pub(super) living: BTreeSet<u64>,
    pub(super) processes: u64,
    ids: u64,
    /// How many times it has lost entries.
    pub(super) losses: u64,
}

pub(super) struct Entry {
    pub(super) fields: Fields,
    added_at: Time,
    pub(super) attempts: u32,
    /// The process that received it last; `None` if the next read hands it out.
    pub(super) holder: Option<u64>,
}

impl Streams {
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn add(&mut self, fields: Fields, at: Time) -> EntryId {
        let id = self.next_id();
        self.insert(id, fields, at);
        entry_id(id)
    }

    pub(super) fn insert(&mut self, id: u64, fields: Fields, added_at: Time) {
        self.entries.insert(id, Entry { fields, added_at, attempts: 0, holder: None });
    }

    /// Starts reading as the current process: entries handed out before are handed out again.
    pub(super) fn begin(&mut self, handover: Handover) {
        for entry in self.entries.values_mut().filter(|entry| entry.attempts > 0) {
            entry.attempts += u32::from(handover == Handover::Silent);
            entry.holder = None;
        }
    }

    /// Entries that the process does not hold, in stream order; those that another process took are taken back.
    pub(super) fn take(&mut self, process: u64, max: usize, read_at: Time) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        if !self.living.contains(&process) {
            return deliveries;
        }
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.holder != Some(process)).take(max) {
            entry.holder = Some(process);
            let again = entry.attempts > 0;
            entry.attempts = entry.attempts.max(1);
            let (fields, added_at, attempt) = (entry.fields.clone(), entry.added_at, entry.attempts);
            deliveries.push(Delivery { id: entry_id(*id), attempt, again, added_at, read_at, fields });
        }
        deliveries
    }

    pub(super) fn recount(&mut self, id: EntryId, attempt: u32) {
        if let Some(entry) = self.entries.get_mut(&id.sequence) {
            entry.attempts = attempt;
        }
    }

    pub(super) fn dead_letter(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            let id = self.next_id();
            self.dead.insert(id, letter.fields());
        }
    }

    pub(super) fn depth(&self) -> Depth {
        let unread = self.entries.values().filter(|entry| entry.attempts == 0).count() as u64;
        Depth {
            unread,
            pending: self.entries.len() as u64 - unread,
            dead: self.dead.len() as u64,
            oldest: self.entries.first_key_value().map(|(id, _)| entry_id(*id)),
        }
    }
}

pub(super) fn fields_of(event: &Event) -> Fields {
    event.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}

pub(super) fn entry_id(sequence: u64) -> EntryId {
    EntryId { millis: 0, sequence }
}
