//! Records what was acknowledged, observes every write, and computes at the end what every store must hold.

mod restored;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use chunk_sync_engine::ports::{Commit, CurrentState, EntryId, Projection, Records, Row, StoredDocument};
use chunk_sync_model::merge::{Change, Strategies, merge};
use chunk_sync_model::{Event, Limits, Record, State, SyncVersion, Time, Writer};
use uuid::Uuid;

use super::deletions::Deletions;
use super::scenario::SHARED;
use super::scenario::chunk_id;
use super::{trace, trigger};
use crate::scan::scanned;
use restored::Restored;

/// The knowledge of the oracle, which does not come from the service.
#[derive(Default)]
pub(super) struct Oracle {
    known: Mutex<Known>,
    /// The table has a trigger.
    triggers: bool,
    /// Stores go back to backups.
    restores: bool,
    /// The chunk that a store refuses.
    poison: Option<Uuid>,
}

#[derive(Default)]
pub(super) struct Known {
    /// Every entry that was ever on the bus, by its id.
    pub(super) stream: BTreeMap<EntryId, Event>,
    /// Events that the bus acknowledged to their publishers.
    pub(super) acknowledged: BTreeSet<Uuid>,
    /// Events that the disk acknowledged as synced in the log.
    pub(super) logged: BTreeSet<Uuid>,
    /// Events that must become dead letters, by `event_id`; no other may.
    pub(super) bad: BTreeSet<String>,
    /// Events that may become dead letters: a write that a store refuses may also stay in the outbox for ever.
    pub(super) doubtful: BTreeSet<String>,
    /// The newest recorded version of each chunk.
    pub(super) recorded: BTreeMap<Uuid, SyncVersion>,
    /// Keys that the foreign client wrote into rows, and committed.
    pub(super) written: Vec<(Uuid, String)>,
    pub(super) deletions: Deletions,
    pub(super) restored: Restored,
    /// Violations so far.
    broken: Vec<String>,
}

impl Known {
    /// Whether the event is the only one of its chunk so far.
    pub(super) fn is_alone(&self, id: Uuid) -> bool {
        let chunk = self.stream.values().find(|event| event.event_id == id).map(Event::chunk_id);
        self.stream.values().filter(|event| Some(event.chunk_id()) == chunk).count() == 1
    }

    /// Whether the event may become a dead letter.
    pub(super) fn is_flawed(&self, event: Uuid) -> bool {
        let event = event.to_string();
        self.bad.contains(&event) || self.doubtful.contains(&event)
    }
}

/// The record and the state of a chunk.
type Expected = (Record, Option<Arc<State>>);

impl Oracle {
    pub(super) fn new(triggers: bool, restores: bool, poison: Option<Uuid>) -> Self {
        Self { known: Mutex::default(), triggers, restores, poison }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub(super) fn published(&self, ids: &[EntryId], events: &[Event]) {
        events.iter().for_each(trace::published);
        let mut known = self.known();
        // A comparison after a gap repairs what a store lacks, and the store refuses it once more.
        let repairs = events.iter().filter(|event| event.writer == Writer::Postgres);
        let refused = repairs.filter(|event| Some(event.chunk_id()) == self.poison);
        known.doubtful.extend(refused.map(|event| event.event_id.to_string()));
        known.stream.extend(ids.iter().copied().zip(events.iter().cloned()));
    }

    pub(super) fn acknowledged(&self, event: Uuid) {
        self.known().acknowledged.insert(event);
    }

    /// Checks what a merge read.
    pub(super) fn held(&self, ids: &[Uuid], held: &[CurrentState]) {
        let mut known = self.known();
        for (id, held) in ids.iter().zip(held) {
            let found = held.record.as_ref().map(|record| record.version).unwrap_or_default();
            if let Some(recorded) = known.recorded.get(id).copied().filter(|recorded| *recorded > found) {
                known.broken.push(format!("a merge of {id} read version {found}; the recorded version is {recorded}"));
            }
        }
    }

    /// Notes what a merge recorded, and checks its deletions.
    pub(super) fn merged(&self, commits: &[Commit]) {
        commits.iter().for_each(trace::merged);
        let mut known = self.known();
        let Known { stream, deletions, broken, recorded, .. } = &mut *known;
        recorded.extend(commits.iter().map(|commit| (commit.id, commit.record.version)));
        broken.extend(commits.iter().filter_map(|commit| deletions.recorded(commit, stream.values()).err()));
    }

    pub(super) fn broke(&self, what: String) {
        self.known().broken.push(what);
    }

    /// Number of acknowledged events, and of events that are on the bus more than once.
    pub(super) fn counts(&self) -> (u64, u64) {
        let known = self.known();
        let again =
            known.stream.len() - known.stream.values().map(|event| event.event_id).collect::<BTreeSet<_>>().len();
        (known.acknowledged.len() as u64, again as u64)
    }

    /// Fails with the first violation so far.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let known = self.known();
        let published: BTreeSet<_> = known.stream.values().map(|event| event.event_id).collect();
        let missing = known.acknowledged.difference(&published).next();
        match (known.broken.first(), missing) {
            (Some(broken), _) => Err(broken.clone()),
            (None, Some(missing)) => Err(format!("event {missing} was acknowledged and was never on the bus")),
            (None, None) => Ok(()),
        }
    }

    /// Checks that the dead letters, by `event_id` and with their errors, are exactly the bad events.
    pub(super) fn dead_lettered(&self, dead: &BTreeMap<String, String>) -> Result<(), String> {
        let known = self.known();
        if let Some(alive) = known.bad.iter().find(|bad| !dead.contains_key(*bad)) {
            return Err(format!("event {alive} is bad and is not among the dead letters"));
        }
        match dead.iter().find(|(dead, _)| !known.bad.contains(*dead) && !known.doubtful.contains(*dead)) {
            Some((good, error)) => Err(format!("event {good} is a dead letter although it is good: {error}")),
            None => Ok(()),
        }
    }

    /// Every chunk as a plain merge of its events in the order of the stream leaves it; without the chunks whose rows
    /// the foreign client writes, because their result depends on the row that it found.
    fn expected(&self) -> BTreeMap<Uuid, Expected> {
        let known = self.known();
        let (mut chunks, last) = known.restored.base();
        let shared: BTreeSet<Uuid> = SHARED.map(chunk_id).collect();
        let counts =
            |event: &&Event| !known.bad.contains(&event.event_id.to_string()) && !shared.contains(&event.chunk_id());
        // An event by `postgres` only has the row read again.
        let changes = |event: &&Event| event.writer != Writer::Postgres;
        let later = known.stream.iter().filter(|(id, _)| Some(**id) > last);
        for event in later.map(|(_, event)| event).filter(counts).filter(changes) {
            let held = chunks.remove(&event.chunk_id());
            let (record, state) = held.map_or((None, None), |(record, state)| (Some(record), state));
            let merged = merge(record, state.clone(), &Change::from(event), &Strategies::default());
            let expected = match merged.state {
                Some(sent) if self.triggers && Some(&sent) != state.as_ref() => trigger::expected(merged.record, &sent),
                same => (merged.record, same),
            };
            chunks.insert(event.chunk_id(), expected);
        }
        chunks
    }

    /// The chunks for which a repair was on the stream.
    fn repaired(&self) -> BTreeSet<Uuid> {
        let known = self.known();
        let repairs = known.stream.values().filter(|event| event.writer == Writer::Postgres && !event.set.is_empty());
        repairs.map(Event::chunk_id).collect()
    }

    /// Checks what the system of record holds; `exactly` includes the record of each chunk.
    pub(super) async fn check_records(&self, records: &dyn Records, exactly: bool) -> Result<(), String> {
        let expected = self.expected();
        let ids: Vec<Uuid> = expected.keys().copied().collect();
        let found = records.current(&ids).await.unwrap();
        let repaired = self.repaired();
        for ((id, (record, state)), mut found) in expected.iter().zip(found) {
            // A repair writes the same state under a newer version.
            if let Some(held) = found.record.as_mut().filter(|held| held.version > record.version)
                && repaired.contains(id)
            {
                held.version = record.version;
            }
            if self.known().deletions.is_given_up(*id) {
                continue;
            }
            if !self.same(found.state.as_deref(), state.as_deref()) {
                return Err(format!("the row of {id} is {:?}, not {state:?}", found.state));
            }
            if exactly && found.record.clone().map(unstamped).as_ref() != Some(record) {
                return Err(format!("the record of {id} is {:?}, not {record:?}", found.record));
            }
        }
        let rows = records.rows(None, usize::MAX).await.unwrap().rows;
        let known = self.known();
        for (id, key) in known.written.iter().filter(|(id, _)| !known.deletions.is_given_up(*id)) {
            let row = rows.iter().find(|row| row.id == *id).and_then(|row| row.state.as_ref());
            if !row.is_some_and(|state| state.chunk.metadata.extra.contains_key(key)) {
                return Err(format!("`{key}`, written into the row of {id}, is missing"));
            }
        }
        let shared: BTreeSet<Uuid> = SHARED.map(chunk_id).collect();
        // The operator had the chunk deleted, of which only stores were left: it has a tombstone.
        let is_left = |row: &Row| row.state.is_none() && known.deletions.is_given_up(row.id);
        let strange = |row: &&Row| !expected.contains_key(&row.id) && !shared.contains(&row.id) && !is_left(row);
        match rows.iter().find(strange) {
            Some(row) => Err(format!("{} was never published and has a row or record", row.id)),
            None => Ok(()),
        }
    }

    /// Whether two states of a row are equal. With a trigger without the markers of conflicts: they name a lost value as
    /// the row showed it, and a value that lost within one merge was in no row.
    fn same(&self, one: Option<&State>, other: Option<&State>) -> bool {
        let without_markers =
            |state: Option<&State>| state.map(|state| (state.chunk.clone().into_view(), state.embedding_stale));
        if self.triggers { without_markers(one) == without_markers(other) } else { one == other }
    }

    /// Checks that no version outranks what comes next: none lies further ahead of the clock than its bound allows.
    pub(super) async fn check_versions(&self, records: &dyn Records, now: Time) -> Result<(), String> {
        let latest = now.micros() + 2 * Limits::default().max_ahead_micros;
        let rows = records.rows(None, usize::MAX).await.unwrap().rows;
        match rows.iter().find(|row| row.version.signed() > latest) {
            Some(row) => Err(format!("{} has version {}, far ahead of the clock ({now})", row.id, row.version)),
            None => Ok(()),
        }
    }

    /// Checks what a store holds of all chunks but `poison`, which it refuses.
    pub(super) async fn check_store(
        &self,
        store: &dyn Projection,
        records: &dyn Records,
        poison: Option<Uuid>,
    ) -> Result<(), String> {
        let (mut expected, target) = (self.expected(), store.target());
        // The rows that the foreign client wrote are compared with the system of record.
        let shared: Vec<Uuid> = SHARED.map(chunk_id).collect();
        for (id, held) in shared.iter().zip(records.current(&shared).await.unwrap()) {
            if let Some(record) = held.record {
                expected.insert(*id, (record, held.state));
            }
        }
        let ids: Vec<Uuid> = expected.keys().copied().collect();
        let found = records.current(&ids).await.unwrap();
        let seen: BTreeMap<Uuid, StoredDocument> =
            scanned(store).await.into_iter().map(|seen| (seen.id, seen)).collect();
        for ((id, (_, state)), held) in expected.iter().zip(found) {
            let given_up = self.known().deletions.is_given_up(*id);
            let state = if self.triggers || given_up { &held.state } else { state };
            match (state, seen.get(id)) {
                (None, None) => {}
                (Some(_), None) if Some(*id) == poison => {}
                (None, Some(seen)) => return Err(format!("{target} holds {id} at {}; it is deleted", seen.version)),
                (Some(_), None) => return Err(format!("{target} misses {id}")),
                (Some(state), Some(seen)) => {
                    let differing = seen.document.differing(&store.expect(state));
                    let version = held.record.map(|record| record.version).unwrap_or_default();
                    // A store that went back to a backup may show the same content under an older version.
                    let other = if self.restores { seen.version > version } else { seen.version != version };
                    if !differing.is_empty() || other {
                        let at = seen.version;
                        return Err(format!("{target} holds {id} at {at}, not {version}; {differing:?} differ"));
                    }
                }
            }
        }
        match seen.keys().find(|id| !expected.contains_key(id)) {
            Some(id) => Err(format!("{target} holds {id}, which was never published")),
            None => Ok(()),
        }
    }
}

/// The record without the times at which its settings were recorded, which no event states.
fn unstamped(mut record: Record) -> Record {
    let settings = record.writers.values_mut().flat_map(|history| history.parts.values_mut()).flatten();
    settings.for_each(|setting| setting.recorded = 0);
    record
}
