//! Turns a writer's view into settings: only the parts in which the view differs from the writer's base.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk::Chunk;
use crate::event::EventType;
use crate::parse::is_marker;
use crate::record::{History, Reported, Setting};
use crate::{ChangeVersion, Hash, Origin, Part, PartPattern, Record, Writer};

use super::Change;
use super::show::Shown;
use super::values::View;

/// What a change added to its writer's history.
pub(super) struct Changed {
    /// The version of all settings of the change.
    pub(super) version: ChangeVersion,
    /// The parts that the change set, with the hash of each value; `None` for a removal.
    pub(super) parts: BTreeMap<Part, Option<Hash>>,
    /// Whether the writer knew the chunk before.
    pub(super) knew: bool,
}

/// Adds an admitted change to its writer's history.
pub(super) fn apply(record: &mut Record, before: &Shown, change: &Change<'_>, view: Option<&View<'_>>) -> Changed {
    let content = view.map(|view| record.set_form(Hash::of_bytes(view.chunk.content.as_bytes())));
    let history = record.writers.entry(change.writer).or_insert_with(History::new);
    let count = history.count(change.time, change.event);
    if change.unchanged.is_empty() && change.writer != Writer::Operator {
        history.whole = change.time;
    }
    let version = ChangeVersion { time: change.time, writer: change.writer, count };
    let mut author = Author { history, before, change, version, content, changed: BTreeMap::new() };
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
    /// The content of the view, as it was set.
    content: Option<Hash>,
    changed: BTreeMap<Part, Option<Hash>>,
}

impl Author<'_> {
    fn deletes(&mut self) {
        self.set(Part::Existence, None, None);
        self.history.reported = Reported::default();
    }

    fn views(&mut self, view: &View<'_>) {
        if self.sets_existence() {
            self.set(Part::Existence, Some(Hash::of_existence()), None);
        }
        let content = self.content_of();
        for (part, hash, _) in &view.parts {
            if self.states(part) {
                self.compare(part, *hash, content);
            }
        }
        let present: BTreeSet<&Part> = view.parts.iter().map(|(part, ..)| part).collect();
        for part in self.known_parts() {
            if !present.contains(&part) && self.states(&part) {
                self.remove(part);
            }
        }
        self.report(view.chunk);
    }

    fn sets_existence(&self) -> bool {
        match self.change.writer {
            Writer::Operator => self.named(&Part::Existence),
            _ => self.change.kind == EventType::Create || !self.knows(),
        }
    }

    /// Whether the view states the part. The view of an operator states only the parts in `set`, because the others may
    /// have changed since it was taken.
    fn states(&self, part: &Part) -> bool {
        match self.change.writer {
            Writer::Operator => self.named(part),
            _ => !covers(self.change.unchanged, part),
        }
    }

    fn compare(&mut self, part: &Part, hash: Hash, content: Option<Hash>) {
        if !self.is_base(part, Some(hash)) || self.named(part) {
            let made_for = matches!(part, Part::Dense(_) | Part::Sparse).then_some(content).flatten();
            self.set(part.clone(), Some(hash), made_for);
        }
    }

    fn remove(&mut self, part: Part) {
        if !self.is_base(&part, None) || self.named(&part) {
            self.set(part, None, None);
        }
    }

    fn set(&mut self, part: Part, hash: Option<Hash>, made_for: Option<Hash>) {
        // A value in a store that differs from what the service wrote there was set deliberately, even if another
        // writer has set the same value before.
        let on_purpose = self.change.writer.is_store() || self.named(&part);
        let ChangeVersion { time, count, .. } = self.version;
        // A stored form that a writer read and states is the value that was set, whatever its embeddings belong to.
        let set = self.content.filter(|set| part == Part::Content && hash.is_some() && hash != Some(*set));
        let (of, stored) = set.map_or((hash, None), |set| (Some(set), Some(hash)));
        let setting = Setting { time, count, hash: of, stored, on_purpose, made_for, value: None, recorded: 0 };
        self.history.set(part.clone(), setting);
        self.changed.insert(part, hash);
    }

    /// The base of a direct write or of an operator is the shown value, which is what the service wrote into the
    /// stores. The base of a publisher is the value that it last set.
    fn base(&self, part: &Part) -> Option<Hash> {
        if self.writes_on_top() { self.before.hash(part) } else { self.history.base(part) }
    }

    /// Whether the value is the base. The base of a publisher counts as it was set and as it is stored.
    fn is_base(&self, part: &Part, hash: Option<Hash>) -> bool {
        if self.writes_on_top() { self.before.hash(part) == hash } else { self.history.base_is(part, hash) }
    }

    fn knows(&self) -> bool {
        if self.writes_on_top() { self.before.exists } else { self.history.knows() }
    }

    /// All parts that the absence from the view may remove: those that the writer has set or the store shows, and those
    /// named in `set`.
    fn known_parts(&self) -> Vec<Part> {
        let named = self.change.set.iter().filter_map(|pattern| match pattern {
            PartPattern::One(part) => Some(part),
            _ => None,
        });
        let known: Vec<&Part> =
            if self.writes_on_top() { self.before.parts.keys().collect() } else { self.history.parts.keys().collect() };
        let removable = |part: &&Part| **part != Part::Existence && !is_marker(part);
        let parts: BTreeSet<&Part> = known.into_iter().chain(named).filter(removable).collect();
        parts.into_iter().cloned().collect()
    }

    fn named(&self, part: &Part) -> bool {
        covers(self.change.set, part)
    }

    /// Whether the change is based on the shown state.
    fn writes_on_top(&self) -> bool {
        self.change.writer.is_store() || self.change.writer == Writer::Operator
    }

    /// The hash of the content that the view's embeddings were computed from, as it was set.
    fn content_of(&self) -> Option<Hash> {
        if covers(self.change.unchanged, &Part::Content) { self.base(&Part::Content) } else { self.content }
    }

    fn report(&mut self, view: &Chunk) {
        let (reported, metadata, time) = (&mut self.history.reported, &view.metadata, self.change.time);
        reported.updated_at = Some(reported.updated_at.map_or(metadata.updated_at, |t| t.max(metadata.updated_at)));
        if self.change.writer == Writer::Operator {
            return;
        }
        add_origin(&mut reported.origins, view.system_origin);
        reported.created_at = Some(reported.created_at.map_or(metadata.created_at, |t| t.min(metadata.created_at)));
        reported.indexed_at = metadata.indexed_at.map(|value| (time, value)).or(reported.indexed_at);
        reported.cognified_at = metadata.cognified_at.map(|value| (time, value)).or(reported.cognified_at);
        reported.processing_time_ms =
            metadata.processing_time_ms.map(|value| (time, value)).or(reported.processing_time_ms);
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
