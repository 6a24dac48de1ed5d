//! Who knows what was acknowledged, watches what is done, and says at the end what every store must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use chunk_sync_engine::ports::{Commit, EntryId, Held, Records, Seen, Store};
use chunk_sync_model::merge::{Change, merge};
use chunk_sync_model::{Event, Record, State, SyncVersion, Target};
use uuid::Uuid;

use super::capture::SHARED;
use super::writers::chunk_id;

/// What is known without asking the service.
#[derive(Default)]
pub(super) struct Oracle(Mutex<Known>);

#[derive(Default)]
pub(super) struct Known {
    /// Everything that ever lay on the bus, by its place there.
    stream: BTreeMap<EntryId, Event>,
    /// What publishers were told is safe.
    acknowledged: BTreeSet<Uuid>,
    /// What the disk said is in the log.
    pub(super) logged: BTreeSet<Uuid>,
    /// What must end among the dead letters, and nothing else, by `event_id`.
    pub(super) bad: BTreeSet<String>,
    /// What may end there: a store that refuses it may also owe it for ever.
    pub(super) doubtful: BTreeSet<String>,
    /// The newest version that was recorded of each chunk.
    recorded: BTreeMap<Uuid, SyncVersion>,
    /// Keys that a stranger wrote into rows, and committed.
    pub(super) written: Vec<(Uuid, String)>,
    /// What must never happen, and did.
    broken: Vec<String>,
}

impl Known {
    /// Whether the event is one that may be set aside.
    pub(super) fn is_flawed(&self, event: Uuid) -> bool {
        let event = event.to_string();
        self.bad.contains(&event) || self.doubtful.contains(&event)
    }
}

/// A chunk's memory and state.
type Expected = (Record, Option<Arc<State>>);

impl Oracle {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    pub(super) fn published(&self, ids: &[EntryId], events: &[Event]) {
        self.known().stream.extend(ids.iter().copied().zip(events.iter().cloned()));
    }

    pub(super) fn acknowledged(&self, event: Uuid) {
        self.known().acknowledged.insert(event);
    }

    pub(super) fn store_went(&self, target: Target, before: &Seen, after: &Seen) {
        if after.version < before.version {
            let what = format!("{target} went back from {} to {} on {}", before.version, after.version, before.id);
            self.known().broken.push(what);
        }
    }

    /// What a merge found.
    pub(super) fn held(&self, ids: &[Uuid], held: &[Held]) {
        let mut known = self.known();
        for (id, held) in ids.iter().zip(held) {
            let found = held.record.as_ref().map(|record| record.version).unwrap_or_default();
            if let Some(recorded) = known.recorded.get(id).copied().filter(|recorded| *recorded > found) {
                known.broken.push(format!("a merge of {id} found version {found}; recorded was {recorded}"));
            }
        }
    }

    /// What a merge recorded.
    pub(super) fn merged(&self, commits: &[Commit]) {
        self.known().recorded.extend(commits.iter().map(|commit| (commit.id, commit.record.version)));
    }

    pub(super) fn broke(&self, what: String) {
        self.known().broken.push(what);
    }

    /// Events acknowledged, and those of them that are more than once on the bus.
    pub(super) fn counts(&self) -> (u64, u64) {
        let known = self.known();
        let again =
            known.stream.len() - known.stream.values().map(|event| event.event_id).collect::<BTreeSet<_>>().len();
        (known.acknowledged.len() as u64, again as u64)
    }

    /// What has gone wrong so far.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let known = self.known();
        let published: BTreeSet<_> = known.stream.values().map(|event| event.event_id).collect();
        let missing = known.acknowledged.difference(&published).next();
        match (known.broken.first(), missing) {
            (Some(broken), _) => Err(broken.clone()),
            (None, Some(missing)) => Err(format!("{missing} was acknowledged and never lay on the bus")),
            (None, None) => Ok(()),
        }
    }

    /// Whether the dead letters are just the bad ones, by `event_id`.
    pub(super) fn buried(&self, dead: &BTreeSet<String>) -> Result<(), String> {
        let known = self.known();
        if let Some(alive) = known.bad.difference(dead).next() {
            return Err(format!("{alive} is bad, and not among the dead letters"));
        }
        match dead.iter().find(|dead| !known.bad.contains(*dead) && !known.doubtful.contains(*dead)) {
            Some(good) => Err(format!("{good} is a dead letter, and nothing was wrong with it")),
            None => Ok(()),
        }
    }

    /// Every chunk as a straight merge of its events in the order of the stream leaves it; not those into whose rows
    /// somebody writes, for what comes of that depends on what he found there.
    fn expected(&self) -> BTreeMap<Uuid, Expected> {
        let known = self.known();
        let mut chunks: BTreeMap<Uuid, Expected> = BTreeMap::new();
        let shared: BTreeSet<Uuid> = SHARED.map(chunk_id).collect();
        let counts =
            |event: &&Event| !known.bad.contains(&event.event_id.to_string()) && !shared.contains(&event.chunk_id());
        for event in known.stream.values().filter(counts) {
            let held = chunks.remove(&event.chunk_id());
            let (record, state) = held.map_or((None, None), |(record, state)| (Some(record), state));
            let merged = merge(record, state, &Change::from(event));
            chunks.insert(event.chunk_id(), (merged.record, merged.state));
        }
        chunks
    }

    /// Whether the system of record holds what it must; `exactly` down to the memory of each chunk.
    pub(super) async fn check_records(&self, records: &dyn Records, exactly: bool) -> Result<(), String> {
        let expected = self.expected();
        let ids: Vec<Uuid> = expected.keys().copied().collect();
        let found = held(records, &ids).await;
        for ((id, (record, state)), found) in expected.iter().zip(found) {
            if found.state != *state {
                return Err(format!("the row of {id} is {:?}, not {state:?}", found.state));
            }
            if exactly && found.record.as_ref() != Some(record) {
                return Err(format!("the record of {id} is {:?}, not {record:?}", found.record));
            }
        }
        let rows = records.rows(None, usize::MAX).await.unwrap();
        for (id, key) in &self.known().written {
            let row = rows.iter().find(|row| row.id == *id).and_then(|row| row.state.as_ref());
            if !row.is_some_and(|state| state.chunk.metadata.extra.contains_key(key)) {
                return Err(format!("`{key}`, written into the row of {id}, is not there"));
            }
        }
        let shared: BTreeSet<Uuid> = SHARED.map(chunk_id).collect();
        match rows.iter().find(|row| !expected.contains_key(&row.id) && !shared.contains(&row.id)) {
            Some(row) => Err(format!("nobody published {}, and it has a row or record", row.id)),
            None => Ok(()),
        }
    }

    /// Whether a store holds what it must of all chunks but `poison`, which it refuses.
    pub(super) async fn check_store(
        &self,
        store: &dyn Store,
        records: &dyn Records,
        poison: Option<Uuid>,
    ) -> Result<(), String> {
        let (mut expected, target) = (self.expected(), store.target());
        // What a stranger had a hand in is where all agree on what shows.
        let shared: Vec<Uuid> = SHARED.map(chunk_id).collect();
        for (id, held) in shared.iter().zip(held(records, &shared).await) {
            if let Some(record) = held.record {
                expected.insert(*id, (record, held.state));
            }
        }
        let ids: Vec<Uuid> = expected.keys().copied().collect();
        let found = held(records, &ids).await;
        let seen: BTreeMap<Uuid, Seen> =
            store.scan(None, usize::MAX).await.unwrap().into_iter().map(|seen| (seen.id, seen)).collect();
        for ((id, (_, state)), held) in expected.iter().zip(found) {
            match (state, seen.get(id)) {
                (None, None) => {}
                (Some(_), None) if Some(*id) == poison => {}
                (None, Some(seen)) => return Err(format!("{target} holds {id} at {}; it is gone", seen.version)),
                (Some(_), None) => return Err(format!("{target} misses {id}")),
                (Some(state), Some(seen)) => {
                    let differing = seen.fingerprint.differing(&store.expect(state));
                    let version = held.record.map(|record| record.version).unwrap_or_default();
                    if !differing.is_empty() || seen.version != version {
                        let at = seen.version;
                        return Err(format!("{target} holds {id} at {at}, not {version}; {differing:?} differ"));
                    }
                }
            }
        }
        match seen.keys().find(|id| !expected.contains_key(id)) {
            Some(id) => Err(format!("nobody published {id}, and {target} holds it")),
            None => Ok(()),
        }
    }
}

/// What the system of record holds, read in a transaction that changes nothing.
async fn held(records: &dyn Records, ids: &[Uuid]) -> Vec<Held> {
    let found = Mutex::new(Vec::new());
    let look = |held: Vec<Held>| {
        *found.lock().unwrap() = held;
        Vec::new()
    };
    records.merge(ids, &look).await.unwrap();
    found.into_inner().unwrap()
}
