//! From a writer's view to settings: what the view does not change against the writer's base, it has no opinion on.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk::Chunk;
use crate::event::EventType;
use crate::parse::is_marker;
use crate::record::{History, Said, Setting};
use crate::{ChangeVersion, Hash, Origin, Part, PartPattern, Record, Writer};

use super::Change;
use super::show::Shown;
use super::values::View;

/// What a change came to in its writer's history.
pub(super) struct Changed {
    /// The version of all that it set.
    pub(super) version: ChangeVersion,
    /// The parts that it set, and to what.
    pub(super) parts: BTreeMap<Part, Option<Hash>>,
    /// Whether the writer knew the chunk before.
    pub(super) knew: bool,
}

/// Adds a change that the record admits to its writer's history.
pub(super) fn apply(record: &mut Record, before: &Shown, change: &Change<'_>, view: Option<&View<'_>>) -> Changed {
    let history = record.writers.entry(change.writer).or_insert_with(History::new);
    let count = history.count(change.time, change.event);
    let version = ChangeVersion { time: change.time, writer: change.writer, count };
    let mut author = Author { history, before, change, version, changed: BTreeMap::new() };
    let knew = author.knows();
    match view {
        Some(view) => author.views(view),
        None => author.deletes(),
    }
    Changed { version, parts: author.changed, knew }
}

struct Author<'a> {
    history: &'a mut History,
    before: &'a Shown,
    change: &'a Change<'a>,
    version: ChangeVersion,
    changed: BTreeMap<Part, Option<Hash>>,
}

impl Author<'_> {
    fn deletes(&mut self) {
        self.set(Part::Existence, None, None);
        self.history.said = Said::default();
    }

    fn views(&mut self, view: &View<'_>) {
        if self.exists_anew() {
            self.set(Part::Existence, Some(Hash::of_existence()), None);
        }
        let content = self.content_of(view.chunk);
        for (part, hash, _) in &view.parts {
            if self.speaks_of(part) {
                self.compare(part, *hash, content);
            }
        }
        let present: BTreeSet<&Part> = view.parts.iter().map(|(part, ..)| part).collect();
        for part in self.known_parts() {
            if !present.contains(&part) && self.speaks_of(&part) {
                self.remove(part);
            }
        }
        self.remember(view.chunk);
    }

    fn exists_anew(&self) -> bool {
        match self.change.writer {
            Writer::Operator => self.named(&Part::Existence),
            _ => self.change.kind == EventType::Create || !self.knows(),
        }
    }

    /// Whether the view says anything of the part. An operator decides on what `set` names and on nothing else, whatever
    /// the rest of the view has become since it was taken.
    fn speaks_of(&self, part: &Part) -> bool {
        match self.change.writer {
            Writer::Operator => self.named(part),
            _ => !covers(self.change.unchanged, part),
        }
    }

    fn compare(&mut self, part: &Part, hash: Hash, content: Option<Hash>) {
        if self.base(part) != Some(hash) || self.named(part) {
            let made_for = matches!(part, Part::Dense(_) | Part::Sparse).then_some(content).flatten();
            self.set(part.clone(), Some(hash), made_for);
        }
    }

    fn remove(&mut self, part: Part) {
        if self.base(&part).is_some() || self.named(&part) {
            self.set(part, None, None);
        }
    }

    fn set(&mut self, part: Part, hash: Option<Hash>, made_for: Option<Hash>) {
        // What differs in a store from what was written there was changed on purpose, whoever has set the same before.
        let on_purpose = self.change.writer.is_store() || self.named(&part);
        let ChangeVersion { time, count, .. } = self.version;
        self.history.set(part.clone(), Setting { time, count, hash, on_purpose, made_for, value: None });
        self.changed.insert(part, hash);
    }

    /// The base of a store is what the service wrote there, which is what shows, and so is an operator's; that of a
    /// publisher is what it said.
    fn base(&self, part: &Part) -> Option<Hash> {
        if self.writes_on_top() { self.before.hash(part) } else { self.history.base(part) }
    }

    fn knows(&self) -> bool {
        if self.writes_on_top() { self.before.exists } else { self.history.knows() }
    }

    /// Every part that the view could have left out: those the writer said, or a store shows, or `set` names.
    fn known_parts(&self) -> Vec<Part> {
        let named = self.change.set.iter().filter_map(|pattern| match pattern {
            PartPattern::One(part) => Some(part),
            _ => None,
        });
        let said: Vec<&Part> =
            if self.writes_on_top() { self.before.parts.keys().collect() } else { self.history.parts.keys().collect() };
        let can = |part: &&Part| **part != Part::Existence && !is_marker(part);
        let parts: BTreeSet<&Part> = said.into_iter().chain(named).filter(can).collect();
        parts.into_iter().cloned().collect()
    }

    fn named(&self, part: &Part) -> bool {
        covers(self.change.set, part)
    }

    /// Whether the change was made on top of all that shows.
    fn writes_on_top(&self) -> bool {
        self.change.writer.is_store() || self.change.writer == Writer::Operator
    }

    /// The content that the view's embeddings were made for.
    fn content_of(&self, view: &Chunk) -> Option<Hash> {
        if covers(self.change.unchanged, &Part::Content) {
            self.base(&Part::Content)
        } else {
            Some(Hash::of_bytes(view.content.as_bytes()))
        }
    }

    fn remember(&mut self, view: &Chunk) {
        let (said, metadata, time) = (&mut self.history.said, &view.metadata, self.change.time);
        said.updated_at = Some(said.updated_at.map_or(metadata.updated_at, |t| t.max(metadata.updated_at)));
        if self.change.writer == Writer::Operator {
            return;
        }
        add_origin(&mut said.origins, view.system_origin);
        said.created_at = Some(said.created_at.map_or(metadata.created_at, |t| t.min(metadata.created_at)));
        said.indexed_at = metadata.indexed_at.map(|value| (time, value)).or(said.indexed_at);
        said.cognified_at = metadata.cognified_at.map(|value| (time, value)).or(said.cognified_at);
        said.processing_time_ms = metadata.processing_time_ms.map(|value| (time, value)).or(said.processing_time_ms);
    }
}

fn covers(patterns: &[PartPattern], part: &Part) -> bool {
    patterns.iter().any(|pattern| pattern.covers(part))
}

fn add_origin(origins: &mut Vec<Origin>, origin: Origin) {
    if !origins.contains(&origin) {
        origins.push(origin);
        origins.sort_unstable();
    }
}
