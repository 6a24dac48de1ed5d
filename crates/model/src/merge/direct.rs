//! What somebody wrote into Qdrant or Neo4j past the service: which parts of the chunk the store says otherwise than the
//! service had it say, and what becomes of that.
//!
//! The base of a store is what was written there under the version that the store itself shows, so a store that shows
//! another version than the record has no opinion: it is behind, or ahead of a system of record that was restored. Nor has
//! it one where a field is absent that may be there: the field was lost, and nothing is said. `metadata`, the entities and
//! the relations are each written whole, so there what is absent was removed.

mod graph;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::conflict::{Conflict, Kind, Outcome, Side};
use super::show::show;
use super::strategy::{Strategies, Strategy};
use super::values::{Values, View};
use crate::chunk::{Chunk, State};
use crate::document::Document;
use crate::parse::{self, is_marker};
use crate::part::PartValue;
use crate::{Hash, Limits, Part, Record, SyncVersion, Time, Writer};

/// What a store was found to hold.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Whoever writes into that store directly.
    pub writer: Writer,
    /// The version that the store shows.
    pub version: SyncVersion,
    /// All that it holds of the chunk.
    pub document: &'a Document,
}

/// A direct write: the parts that a store says otherwise than the service wrote them there.
#[derive(Clone, Debug, PartialEq)]
pub struct Direct {
    /// Whoever wrote.
    pub writer: Writer,
    /// When: as the store says where that moved, else just after the version that was written over.
    pub time: Time,
    /// `metadata.updated_at` where it moved.
    moved: Option<Time>,
    /// The chunk with all that the store says of it.
    said: Chunk,
    /// The parts in question, each with what the service had written there last.
    parts: BTreeMap<Part, Option<Hash>>,
}

impl Direct {
    /// What was written into a store on top of `state`, which is what the row says under `record`; `None` where nothing
    /// was. A time beyond `latest` is not believed.
    #[must_use]
    pub fn of(
        record: &Record,
        state: &State,
        found: Found<'_>,
        (strategies, limits): (&Strategies, &Limits),
        latest: Time,
    ) -> Option<Self> {
        if found.version != record.version {
            return None;
        }
        let mut said = state.chunk.clone();
        match found.document {
            Document::Row(_) => return None,
            Document::Vectors(document) => vectors::say(&mut said, document, state, limits),
            Document::Graph(document) => graph::say(&mut said, document, state),
        }
        let (held, now) = (hashes(&state.chunk), hashes(&said));
        let names = held.keys().chain(now.keys()).filter(|part| !is_marker(part));
        let differing: BTreeSet<&Part> = names.filter(|part| held.get(*part) != now.get(*part)).collect();
        if differing.is_empty() {
            return None;
        }
        let written = written(record, state, strategies);
        let base = |part: &&Part| {
            let (written, held, now) = (written.get(*part), held.get(*part), now.get(*part));
            is_direct(part, written, held, now).then(|| ((*part).clone(), written.copied()))
        };
        let parts: BTreeMap<Part, Option<Hash>> = differing.iter().filter_map(base).collect();
        let moved = updated_at(found.document).filter(|at| *at > state.chunk.metadata.updated_at && *at <= latest);
        let after = Time::from_micros(found.version.signed().saturating_add(1));
        let time = moved.unwrap_or(after);
        (!parts.is_empty()).then_some(Self { writer: found.writer, time, moved, said, parts })
    }

    /// Whether any vector is among it.
    #[must_use]
    pub fn has_vectors(&self) -> bool {
        self.parts.keys().any(|part| Kind::of(part) == Kind::Embeddings)
    }

    /// The chunk that shows `state` and on top of it what was written; `None` where that keeps no rule of a chunk.
    #[must_use]
    pub fn view(&self, state: &State, limits: &Limits) -> Option<Chunk> {
        let mut view = state.chunk.clone();
        let said: BTreeMap<Part, PartValue<'_>> = self.said.parts().into_iter().collect();
        for part in self.parts.keys() {
            view.remove(part);
            if let Some(value) = said.get(part) {
                view.put(part, *value);
            }
        }
        view.graph.drop_dangling();
        if let Some(moved) = self.moved {
            view.metadata.updated_at = view.metadata.updated_at.max(moved);
        }
        parse::chunk(&serde_json::to_string(&view).ok()?, limits).ok()
    }

    /// What of it goes on record: where `after`, which it came to, does not show it, and where somebody else has written
    /// over the same meanwhile, so that `before` it the row said something else than was written into the store.
    #[must_use]
    pub fn conflicts(
        &self,
        record: &Record,
        before: &State,
        after: Option<&State>,
        strategy: impl Fn(&Part) -> Strategy,
    ) -> Vec<Conflict> {
        let said = sides(&self.said);
        let (before, after) = (sides(&before.chunk), after.map(|state| sides(&state.chunk)).unwrap_or_default());
        let conflict = |(part, base): (&Part, &Option<Hash>)| {
            let of = |sides: &BTreeMap<Part, (Hash, Value)>| {
                let (hash, value) = sides.get(part).cloned().unzip();
                let by = hash.and_then(|hash| record.said_by(part, hash));
                Side { writer: by.map(|(writer, _)| writer), time: by.map(|(_, time)| time), hash, value }
            };
            let source = Side { writer: Some(self.writer), time: Some(self.time), ..of(&said) };
            let (target, result) = (of(&before), of(&after));
            let outcome = if result.hash == source.hash { Outcome::SourceKept } else { Outcome::TargetKept };
            let base = if target.hash == *base { target.clone() } else { Side { hash: *base, ..Side::default() } };
            (base.hash != target.hash || outcome == Outcome::TargetKept).then(|| Conflict {
                part: part.clone(),
                kind: Kind::of(part),
                strategy: strategy(part),
                outcome,
                base,
                source,
                target,
                result,
            })
        };
        self.parts.iter().filter_map(conflict).collect()
    }
}

/// What the service wrote into every store under the version of the record.
fn written(record: &Record, state: &State, strategies: &Strategies) -> BTreeMap<Part, Hash> {
    let (mut record, view) = (record.clone(), View::new(&state.chunk));
    let values = Values::new(&mut record, Some(&view), None);
    let shown = show(&record, strategies, &values);
    shown.parts.into_iter().map(|(part, value)| (part, value.hash)).collect()
}

/// Whether a part is what somebody wrote into the store, where the row says `held` of it and the store `now`.
///
/// Where the row does not say what was written, it was itself written to unseen, and the store just not told; it can only
/// say something of its own in a part that it holds whole.
fn is_direct(part: &Part, written: Option<&Hash>, held: Option<&Hash>, now: Option<&Hash>) -> bool {
    let whole = matches!(part, Part::Content | Part::Summary | Part::ChunkType | Part::Metadata(_));
    held == written || (whole && now.is_some() && now != written)
}

fn hashes(chunk: &Chunk) -> BTreeMap<Part, Hash> {
    chunk.parts().into_iter().map(|(part, value)| (part, value.hash())).collect()
}

fn sides(chunk: &Chunk) -> BTreeMap<Part, (Hash, Value)> {
    let side = |value: PartValue<'_>| (value.hash(), serde_json::to_value(value).unwrap_or_default());
    chunk.parts().into_iter().map(|(part, value)| (part, side(value))).collect()
}

fn updated_at(document: &Document) -> Option<Time> {
    match document {
        Document::Row(_) => None,
        Document::Vectors(document) => document.payload.get("updated_at")?.as_str()?.parse().ok(),
        Document::Graph(document) => document.updated_at.parse().ok(),
    }
}
