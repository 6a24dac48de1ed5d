//! Which setting of each part shows, as a pure function of the settings kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{History, Setting};
use crate::{ChangeVersion, Hash, Part, Record, Writer};

/// What shows of a chunk, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Whether the chunk is there; if not, no part shows.
    pub exists: bool,
    /// The parts that show, [`Part::Existence`] not among them.
    pub parts: BTreeMap<Part, ShownPart>,
    /// Where two writers disagree on an embedding: the one that does not show first.
    pub alternatives: BTreeMap<Part, ShownPart>,
    /// An embedding that shows was made for another content than the one that shows.
    pub stale: bool,
}

/// The setting of a part that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownPart {
    /// By whom, and when.
    pub version: ChangeVersion,
    /// Which value.
    pub hash: Hash,
    made_for: Option<Hash>,
}

impl Shown {
    /// The vectors that show, alternatives among them.
    pub(super) fn vectors(&self) -> impl Iterator<Item = (&Part, Hash)> {
        let of_parts = self.parts.iter().filter(|(part, _)| matches!(part, Part::Dense(_) | Part::Sparse));
        of_parts.chain(&self.alternatives).map(|(part, shown)| (part, shown.hash))
    }

    pub(super) fn hash(&self, part: &Part) -> Option<Hash> {
        match part {
            Part::Existence => self.exists.then(|| Hash::of_bytes(b"exists")),
            _ => self.parts.get(part).map(|shown| shown.hash),
        }
    }
}

pub(super) fn show(record: &Record) -> Shown {
    if !record.lives() {
        return Shown::default();
    }
    let deleted = record.newest_delete();
    let mut shown = Shown { exists: true, ..Shown::default() };
    let names: BTreeSet<&Part> = record.writers.values().flat_map(|history| history.parts.keys()).collect();
    let mut embeddings = Vec::new();
    for part in names {
        let effective = effective(record, part, deleted);
        match part {
            Part::Existence => {}
            Part::Dense(_) | Part::Sparse => embeddings.push((part, newest_per_writer(&effective))),
            _ => shown.parts.extend(effective.last().and_then(|s| s.shows()).map(|value| (part.clone(), value))),
        }
    }
    show_embeddings(&mut shown, embeddings);
    hide_loose_ends(&mut shown);
    shown
}

/// A setting together with its version.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    version: ChangeVersion,
    setting: &'a Setting,
}

impl Candidate<'_> {
    fn shows(&self) -> Option<ShownPart> {
        let Setting { hash, made_for, .. } = *self.setting;
        hash.map(|hash| ShownPart { version: self.version, hash, made_for })
    }
}

/// The settings of a part that took effect, in order of version. Not among them: what a delete swept away, an echo (the
/// value that another writer had set already), and the removal of what its writer never set.
fn effective<'a>(record: &'a Record, part: &Part, deleted: Option<ChangeVersion>) -> Vec<Candidate<'a>> {
    let mut settings: Vec<Candidate<'a>> = Vec::new();
    for (writer, history) in &record.writers {
        let own = history.parts.get(part).into_iter().flatten();
        settings.extend(own.map(|setting| Candidate { version: setting.version(*writer), setting }).filter(
            |candidate| {
                deleted.is_none_or(|delete| {
                    candidate.version > delete || still_said(history, *writer, part, candidate.setting, delete)
                })
            },
        ));
    }
    settings.sort_unstable_by_key(|candidate| candidate.version);
    let mut effective: Vec<Candidate<'a>> = Vec::with_capacity(settings.len());
    for candidate in settings {
        let writer = candidate.version.writer;
        let counts = candidate.setting.on_purpose
            || match candidate.setting.hash {
                Some(_) => {
                    !effective.iter().any(|e| e.version.writer != writer && e.setting.hash == candidate.setting.hash)
                }
                None => effective.iter().any(|e| e.version.writer == writer && e.setting.hash.is_some()),
            };
        if counts {
            effective.push(candidate);
        }
    }
    effective
}

/// A setting from before the newest delete counts only if its writer has since published a view that still has it.
fn still_said(history: &History, writer: Writer, part: &Part, setting: &Setting, delete: ChangeVersion) -> bool {
    history.version(writer) > delete && history.base(part) == setting.hash
}

fn newest_per_writer(effective: &[Candidate<'_>]) -> Vec<ShownPart> {
    let newest: BTreeMap<Writer, &Candidate<'_>> =
        effective.iter().map(|candidate| (candidate.version.writer, candidate)).collect();
    newest.values().filter_map(|candidate| candidate.shows()).collect()
}

/// Both are kept: first the newest that was made for the content that shows, then the newest by another writer.
fn show_embeddings(shown: &mut Shown, embeddings: Vec<(&Part, Vec<ShownPart>)>) {
    let content = shown.hash(&Part::Content);
    for (part, mut candidates) in embeddings {
        candidates.sort_by_key(|candidate| (candidate.made_for == content, candidate.version));
        let Some(first) = candidates.pop() else {
            continue;
        };
        shown.stale |= first.made_for != content;
        shown.parts.insert(part.clone(), first);
        let others = candidates.into_iter().filter(|other| other.hash != first.hash);
        if let (Part::Dense(_), Some(other)) = (part, others.max_by_key(|other| other.version)) {
            shown.alternatives.insert(part.clone(), other);
        }
    }
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
