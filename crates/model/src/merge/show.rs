//! Which setting of each part shows, as a pure function of the settings kept and the strategies in force.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::content_hash;
use crate::{ChangeVersion, Hash, Part, Record, Time};

use super::decide::{Decision, Held, decide, decide_embedding};
use super::effective::{Candidate, effective};
use super::values::Values;
use super::{Strategies, Strategy};

/// What shows of a chunk, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Whether the chunk is there; if not, no part shows.
    pub(super) exists: bool,
    /// The parts that show, [`Part::Existence`] not among them.
    pub(super) parts: BTreeMap<Part, ShownPart>,
    /// Where two writers disagree on an embedding: the one that does not show first.
    pub(super) alternatives: BTreeMap<Part, ShownPart>,
    /// The parts that somebody removed, and when.
    pub(super) removed: BTreeMap<Part, ChangeVersion>,
    /// The parts that wait for a person.
    pub(super) open: BTreeSet<Part>,
    /// What the content that shows was in conflict with.
    pub(super) rival: Option<Rival>,
    /// An embedding that shows was made for another content than the one that shows.
    pub(super) stale: bool,
}

/// The setting of a part that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownPart {
    /// By whom, and when.
    pub(super) version: ChangeVersion,
    /// Which value.
    pub(super) hash: Hash,
    /// The text itself, where it was merged and is nobody's own.
    pub(super) merged: Option<String>,
}

/// A content that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    /// SHA-256 in full.
    pub(super) sha256: String,
    /// When it met the one that shows.
    pub(super) met: Time,
    /// What decided; `None` while nothing has.
    pub(super) strategy: Option<Strategy>,
}

impl Shown {
    /// The vectors that show, alternatives among them.
    pub(super) fn vectors(&self) -> impl Iterator<Item = (&Part, Hash)> {
        let of_parts = self.parts.iter().filter(|(part, _)| matches!(part, Part::Dense(_) | Part::Sparse));
        of_parts.chain(&self.alternatives).map(|(part, shown)| (part, shown.hash))
    }

    pub(super) fn hash(&self, part: &Part) -> Option<Hash> {
        match part {
            Part::Existence => self.exists.then(Hash::of_existence),
            _ => self.parts.get(part).map(|shown| shown.hash),
        }
    }

    /// The one alternative that has a place in the chunk.
    pub(super) fn alternative(&self) -> Option<(&Part, &ShownPart)> {
        self.alternatives.iter().next()
    }

    fn insert(&mut self, part: &Part, decision: Decision) {
        if let Some(alternative) = decision.alternative.and_then(Held::shows) {
            self.alternatives.insert(part.clone(), alternative);
        }
        if decision.open {
            self.open.insert(part.clone());
        }
        let Some(held) = decision.held else {
            return;
        };
        let version = held.version;
        match held.shows() {
            Some(shown) => drop(self.parts.insert(part.clone(), shown)),
            None => drop(self.removed.insert(part.clone(), version)),
        }
    }
}

impl Held {
    fn shows(self) -> Option<ShownPart> {
        self.hash.map(|hash| ShownPart { version: self.version, hash, merged: self.merged })
    }
}

pub(super) fn show(record: &Record, strategies: &Strategies, values: &Values<'_>) -> Shown {
    if !record.lives() {
        return Shown::default();
    }
    let deleted = record.newest_delete();
    let mut shown = Shown { exists: true, ..Shown::default() };
    let texts = |hash: Hash| values.content(hash);
    let names: BTreeSet<&Part> = record.writers.values().flat_map(|history| history.parts.keys()).collect();
    // In the order of parts the content comes before the embeddings.
    for part in names.into_iter().filter(|part| **part != Part::Existence) {
        let (settings, strategy) = (settings(record, part, deleted), strategies.of(part));
        if !matches!(part, Part::Dense(_) | Part::Sparse) {
            let decision = decide(strategy, &settings, &texts);
            if *part == Part::Content {
                shown.rival = rival(&decision, strategy, &texts);
            }
            shown.insert(part, decision);
            continue;
        }
        let content = shown.hash(&Part::Content);
        let mut decision = decide_embedding(strategy, &settings, content);
        shown.stale |= decision.held.as_ref().is_some_and(|held| held.hash.is_some() && held.made_for != content);
        if *part == Part::Sparse {
            decision.alternative = None;
        }
        shown.insert(part, decision);
    }
    hide_loose_ends(&mut shown);
    shown
}

/// What every chunk has is there even where all of it was swept away, for a view that brings the chunk back may leave it
/// out as unchanged: then the newest that there was.
fn settings<'a>(record: &'a Record, part: &Part, deleted: Option<ChangeVersion>) -> Vec<Candidate<'a>> {
    let settings = effective(record, part, deleted);
    if settings.is_empty() && part.is_required() {
        return effective(record, part, None).pop().into_iter().collect();
    }
    settings
}

fn rival(decision: &Decision, strategy: Strategy, texts: &dyn Fn(Hash) -> Option<String>) -> Option<Rival> {
    let (lost, met) = decision.lost.as_ref()?;
    let text = lost.merged.clone().or_else(|| texts(lost.hash?))?;
    Some(Rival { sha256: content_hash(&text), met: *met, strategy: (!decision.open).then_some(strategy) })
}

/// A relationship shows only while both its ends do.
fn hide_loose_ends(shown: &mut Shown) {
    let entities: BTreeSet<String> = shown
        .parts
        .keys()
        .filter_map(|part| match part {
            Part::Entity(id) => Some(id.clone()),
            _ => None,
        })
        .collect();
    shown.parts.retain(|part, _| match part {
        Part::Relationship(_, source, target) => entities.contains(source) && entities.contains(target),
        _ => true,
    });
}
