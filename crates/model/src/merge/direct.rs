//! Direct writes: changes that another program made in Qdrant or Neo4j, bypassing the service. Detects the parts whose
//! stored value differs from what the service wrote, and builds the view to merge and the conflicts to record.
//!
//! The base of a store is what the service wrote under the version that the store holds. A store with another version
//! than the record is therefore ignored: it is behind, or ahead of a system of record that was restored. An optional
//! field that is absent in the store is ignored as well: the field was lost, and that is no statement. `metadata`, the
//! entities and the relations are each written as a whole, so an absent element in them was removed.

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
use crate::part_value::PartValue;
use crate::{Hash, Limits, Part, Record, SyncVersion, Time, Writer};

/// A document read from a store.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The writer that stands for direct writes into that store.
    pub writer: Writer,
    /// The sync version that the store holds.
    pub version: SyncVersion,
    /// The chunk's document as the store holds it.
    pub document: &'a Document,
}

/// A direct write: the parts whose value in a store differs from what the service wrote there.
#[derive(Clone, Debug, PartialEq)]
pub struct Direct {
    /// The writer that stands for direct writes into that store.
    pub writer: Writer,
    /// When the write was made: the store's `updated_at` if it advanced, else one microsecond after the overwritten
    /// version.
    pub time: Time,
    /// The store's `metadata.updated_at`, if it advanced.
    updated_at: Option<Time>,
    /// The row's chunk, overlaid with the values in the store.
    observed: Chunk,
    /// The parts that were written directly, each with the hash of the value that the service wrote there last.
    parts: BTreeMap<Part, Option<Hash>>,
}

impl Direct {
    /// Detects a direct write: compares what the store holds with `state`, the state of the row with its `record`.
    /// `None` if there is none, or if the store's version is not that of the record. An `updated_at` after `latest` is
    /// ignored.
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
        let mut observed = state.chunk.clone();
        match found.document {
            Document::Row(_) => return None,
            Document::Vectors(document) => vectors::overlay(&mut observed, document, state, limits),
            Document::Graph(document) => graph::overlay(&mut observed, document, state),
        }
        let (held, now) = (hashes(&state.chunk), hashes(&observed));
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
        let updated_at = updated_at(found.document).filter(|at| *at > state.chunk.metadata.updated_at && *at <= latest);
        let after = Time::from_micros(found.version.signed().saturating_add(1));
        let time = updated_at.unwrap_or(after);
        (!parts.is_empty()).then_some(Self { writer: found.writer, time, updated_at, observed, parts })
    }

    /// Whether a vector was written.
    #[must_use]
    pub fn has_vectors(&self) -> bool {
        self.parts.keys().any(|part| Kind::of(part) == Kind::Embeddings)
    }

    /// `state`'s chunk with the directly written parts; `None` if that chunk breaks a rule.
    #[must_use]
    pub fn view(&self, state: &State, limits: &Limits) -> Option<Chunk> {
        let mut view = state.chunk.clone();
        let observed: BTreeMap<Part, PartValue<'_>> = self.observed.parts().into_iter().collect();
        for part in self.parts.keys() {
            view.remove(part);
            if let Some(value) = observed.get(part) {
                view.put(part, *value);
            }
        }
        view.graph.drop_dangling();
        if let Some(updated_at) = self.updated_at {
            view.metadata.updated_at = view.metadata.updated_at.max(updated_at);
        }
        parse::chunk(&serde_json::to_string(&view).ok()?, limits).ok()
    }

    /// The conflicts to record: for each part whose written value `after` (the merged state) does not show, and for
    /// each part that another writer changed in the meantime, so that its value in the row `before` the merge is not
    /// the one that the service last wrote into the store.
    #[must_use]
    pub fn conflicts(
        &self,
        record: &Record,
        before: &State,
        after: Option<&State>,
        strategy: impl Fn(&Part) -> Strategy,
    ) -> Vec<Conflict> {
        let observed = sides(&self.observed);
        let (before, after) = (sides(&before.chunk), after.map(|state| sides(&state.chunk)).unwrap_or_default());
        let conflict = |(part, base): (&Part, &Option<Hash>)| {
            let of = |sides: &BTreeMap<Part, (Hash, Value)>| {
                let (hash, value) = sides.get(part).cloned().unzip();
                let by = hash.and_then(|hash| record.last_set_by(part, hash));
                Side { writer: by.map(|(writer, _)| writer), time: by.map(|(_, time)| time), hash, value }
            };
            let source = Side { writer: Some(self.writer), time: Some(self.time), ..of(&observed) };
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

/// The values that the service wrote into the stores under the version of the record, by part.
fn written(record: &Record, state: &State, strategies: &Strategies) -> BTreeMap<Part, Hash> {
    let (mut record, view) = (record.clone(), View::new(&state.chunk));
    let values = Values::new(&mut record, Some(&view), None);
    let shown = show(&record, strategies, &values);
    shown.parts.into_iter().map(|(part, value)| (part, value.hash)).collect()
}

/// Whether a part was written directly. `written` is what the service wrote, `held` the value in the row, `now` the
/// value in the store.
///
/// If the row does not hold what the service wrote, another program changed the row and the store has not received that
/// change. The difference is then a direct write only if the store holds the part as a whole and its value is not the
/// written one.
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
