//! From a writer's view to settings: what the view does not change against the writer's base, it has no opinion on.

use std::collections::BTreeSet;

use crate::chunk::Chunk;
use crate::event::EventType;
use crate::record::{History, Said, Setting};
use crate::{Hash, Origin, Part, PartPattern, Record, Time, Writer};

use super::{Change, Changed, Shown};

/// Adds the change to its writer's history. `None` where it is late or a repetition.
pub(super) fn apply(record: &mut Record, before: &Shown, change: &Change<'_>) -> Option<Changed> {
    let history = record.writers.entry(change.writer).or_insert_with(History::new);
    let count = history.admit(change.time, change.event)?;
    let mut author = Author { history, before, change, count, changed: Changed::new() };
    match change.view {
        Some(view) => author.views(view),
        None => author.deletes(),
    }
    Some(author.changed)
}

struct Author<'a> {
    history: &'a mut History,
    before: &'a Shown,
    change: &'a Change<'a>,
    count: u32,
    changed: Changed,
}

impl Author<'_> {
    fn deletes(&mut self) {
        let base = self.base(&Part::Existence);
        self.set(Part::Existence, base, None, None);
        self.history.said = Said::default();
    }

    fn views(&mut self, view: &Chunk) {
        if self.change.kind == EventType::Create || !self.knows() {
            let base = self.base(&Part::Existence);
            self.set(Part::Existence, base, Some(exists()), None);
        }
        let content = self.content_of(view);
        let mut present = BTreeSet::new();
        for (part, value) in view.parts() {
            if part != Part::Existence && !self.left_out(&part) {
                self.compare(part.clone(), value.hash(), content);
            }
            present.insert(part);
        }
        for part in self.known_parts() {
            if !present.contains(&part) && !self.left_out(&part) {
                self.remove(part);
            }
        }
        remember(&mut self.history.said, view, self.change.time);
    }

    fn compare(&mut self, part: Part, hash: Hash, content: Option<Hash>) {
        let base = self.base(&part);
        if base != Some(hash) || self.named(&part) {
            let made_for = matches!(part, Part::Dense(_) | Part::Sparse).then_some(content).flatten();
            self.set(part, base, Some(hash), made_for);
        }
    }

    fn remove(&mut self, part: Part) {
        let base = self.base(&part);
        if base.is_some() || self.named(&part) {
            self.set(part, base, None, None);
        }
    }

    fn set(&mut self, part: Part, base: Option<Hash>, hash: Option<Hash>, made_for: Option<Hash>) {
        // What differs in a store from what was written there was changed on purpose, whoever has set the same before.
        let on_purpose = self.is_store() || self.named(&part);
        let setting = Setting { time: self.change.time, count: self.count, hash, on_purpose, made_for, value: None };
        self.history.set(part.clone(), setting);
        self.changed.insert(part, (base, hash));
    }

    /// The base of a store is what the service wrote there, which is what shows; that of a publisher is what it said.
    fn base(&self, part: &Part) -> Option<Hash> {
        if self.is_store() { self.before.hash(part) } else { self.history.base(part) }
    }

    fn knows(&self) -> bool {
        if self.is_store() { self.before.exists } else { self.history.knows() }
    }

    /// Every part that the view could have left out: those the writer said, or a store shows, or `set` names.
    fn known_parts(&self) -> Vec<Part> {
        let named = self.change.set.iter().filter_map(|pattern| match pattern {
            PartPattern::One(part) => Some(part),
            _ => None,
        });
        let said: Vec<&Part> =
            if self.is_store() { self.before.parts.keys().collect() } else { self.history.parts.keys().collect() };
        let parts: BTreeSet<&Part> = said.into_iter().chain(named).filter(|part| **part != Part::Existence).collect();
        parts.into_iter().cloned().collect()
    }

    fn named(&self, part: &Part) -> bool {
        covers(self.change.set, part)
    }

    fn is_store(&self) -> bool {
        matches!(self.change.writer, Writer::Postgres | Writer::Qdrant | Writer::Neo4j)
    }

    fn left_out(&self, part: &Part) -> bool {
        covers(self.change.unchanged, part)
    }

    /// The content that the view's embeddings were made for.
    fn content_of(&self, view: &Chunk) -> Option<Hash> {
        if self.left_out(&Part::Content) {
            self.base(&Part::Content)
        } else {
            Some(Hash::of_bytes(view.content.as_bytes()))
        }
    }
}

fn covers(patterns: &[PartPattern], part: &Part) -> bool {
    patterns.iter().any(|pattern| pattern.covers(part))
}

/// The one value that existence has.
fn exists() -> Hash {
    Hash::of_bytes(b"exists")
}

fn remember(said: &mut Said, view: &Chunk, time: Time) {
    add_origin(&mut said.origins, view.system_origin);
    let metadata = &view.metadata;
    said.created_at = Some(said.created_at.map_or(metadata.created_at, |t| t.min(metadata.created_at)));
    said.updated_at = Some(said.updated_at.map_or(metadata.updated_at, |t| t.max(metadata.updated_at)));
    said.indexed_at = metadata.indexed_at.map(|value| (time, value)).or(said.indexed_at);
    said.cognified_at = metadata.cognified_at.map(|value| (time, value)).or(said.cognified_at);
    said.processing_time_ms = metadata.processing_time_ms.map(|value| (time, value)).or(said.processing_time_ms);
}

fn add_origin(origins: &mut Vec<Origin>, origin: Origin) {
    if !origins.contains(&origin) {
        origins.push(origin);
        origins.sort_unstable();
    }
}
