//! Selects the shown value of each part. A pure function of the recorded settings and the configured strategies.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::content_hash;
use crate::{ChangeVersion, Hash, Part, Record, Time};

use super::decide::{Decision, decide, decide_embedding};
use super::effective::{Candidate, Current, effective};
use super::values::Values;
use super::{Strategies, Strategy};

/// The shown values of a chunk, by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Whether the chunk exists; if not, no part is shown.
    pub(super) exists: bool,
    /// The shown parts, without [`Part::Existence`].
    pub(super) parts: BTreeMap<Part, ShownPart>,
    /// For an embedding on which two writers disagree: the value that is not the primary one.
    pub(super) alternatives: BTreeMap<Part, ShownPart>,
    /// The removed parts, with the version of the removal.
    pub(super) removed: BTreeMap<Part, ChangeVersion>,
    /// The parts with a conflict that waits for an operator.
    pub(super) open: BTreeSet<Part>,
    /// The content that lost against the shown one.
    pub(super) rival: Option<Rival>,
    /// Whether a shown embedding was computed from other content than the shown one.
    pub(super) stale: bool,
}

/// The shown value of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownPart {
    /// The version of the setting.
    pub(super) version: ChangeVersion,
    /// The hash of the value.
    pub(super) hash: Hash,
    /// The text, if it is the result of a line merge and no writer set it.
    pub(super) merged: Option<String>,
}

/// A content that lost a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    /// The full SHA-256 of the content, hexadecimal.
    pub(super) sha256: String,
    /// The time of the conflict: that of the later of the two settings.
    pub(super) since: Time,
    /// The strategy that resolved the conflict; `None` while it is open.
    pub(super) strategy: Option<Strategy>,
}

impl Shown {
    /// The shown vectors, including alternatives.
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

    /// The alternative that is written into the chunk, which has room for one.
    pub(super) fn alternative(&self) -> Option<(&Part, &ShownPart)> {
        self.alternatives.iter().next()
    }

    fn insert(&mut self, part: &Part, decision: Decision) {
        if let Some(alternative) = decision.alternative.and_then(Current::into_shown) {
            self.alternatives.insert(part.clone(), alternative);
        }
        if decision.open {
            self.open.insert(part.clone());
        }
        let Some(current) = decision.current else {
            return;
        };
        let version = current.version;
        match current.into_shown() {
            Some(shown) => drop(self.parts.insert(part.clone(), shown)),
            None => drop(self.removed.insert(part.clone(), version)),
        }
    }
}

impl Current {
    fn into_shown(self) -> Option<ShownPart> {
        self.hash.map(|hash| ShownPart { version: self.version, hash, merged: self.merged })
    }
}

pub(super) fn show(record: &Record, strategies: &Strategies, values: &Values<'_>) -> Shown {
    if !record.lives() {
        return Shown::default();
    }
    let deleted = record.newest_delete();
    let mut shown = Shown { exists: true, ..Shown::default() };
    let (texts, mut content) = (|hash: Hash| values.content(hash), None);
    let names: BTreeSet<&Part> = record.writers.values().flat_map(|history| history.parts.keys()).collect();
    // Parts are ordered so that the content precedes the embeddings, which depend on it.
    for part in names.into_iter().filter(|part| **part != Part::Existence) {
        let (settings, strategy) = (settings(record, part, deleted), strategies.of(part));
        if !matches!(part, Part::Dense(_) | Part::Sparse) {
            let decision = decide(strategy, &settings, &texts);
            if *part == Part::Content {
                content = decision.current.as_ref().and_then(|current| current.set);
                shown.rival = rival(&decision, strategy, values);
            }
            shown.insert(part, decision);
            continue;
        }
        let mut decision = decide_embedding(strategy, &settings, content);
        shown.stale |= decision.current.as_ref().is_some_and(|value| value.hash.is_some() && value.made_for != content);
        if *part == Part::Sparse {
            decision.alternative = None;
        }
        shown.insert(part, decision);
    }
    hide_dangling_relationships(&mut shown);
    shown
}

/// The effective settings of a part. If a delete discarded all settings of a required part, the newest effective one is
/// used as if there were no delete: a view that revives the chunk may omit the part as unchanged.
fn settings<'a>(record: &'a Record, part: &Part, deleted: Option<ChangeVersion>) -> Vec<Candidate<'a>> {
    let settings = effective(record, part, deleted);
    if settings.is_empty() && part.is_required() {
        return effective(record, part, None).pop().into_iter().collect();
    }
    settings
}

fn rival(decision: &Decision, strategy: Strategy, values: &Values<'_>) -> Option<Rival> {
    let (lost, since) = decision.lost.as_ref()?;
    let merged = lost.merged.as_deref().map(content_hash);
    let sha256 = merged.or_else(|| values.sha256(lost.hash?))?;
    Some(Rival { sha256, since: *since, strategy: (!decision.open).then_some(strategy) })
}

/// Hides relationships with an end that is not shown.
fn hide_dangling_relationships(shown: &mut Shown) {
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
