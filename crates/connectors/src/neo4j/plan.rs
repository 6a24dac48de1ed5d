//! Computes the statements that turn the stored graph data of chunks into their next state. Pure: no I/O.

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_model::document::{GraphDocument, Mention};
use chunk_sync_model::{SyncVersion, Time};

use super::bolt::{Statement, Value};
use super::cypher;
use super::decode::{StoredNode, entity};
use super::encode::{Change, Link, Next, link_row, links, list, row};
use super::groups::{Groups, Known, Stated};

/// One chunk to write: its stored graph data, its next state, and the links of both by entity id.
pub(super) struct Step<'a> {
    id: &'a str,
    version: SyncVersion,
    thorough: bool,
    next: Option<&'a Next>,
    held: &'a StoredNode,
    next_links: BTreeMap<&'a str, Link>,
    held_links: BTreeMap<&'a str, Link>,
}

impl<'a> Step<'a> {
    pub(super) fn new(change: &'a Change, held: &'a StoredNode) -> Self {
        let next_links = change.next.as_ref().map(|next| links(&next.document)).unwrap_or_default();
        let Change { id, version, next, thorough } = change;
        Self {
            id,
            version: *version,
            thorough: *thorough,
            next: next.as_ref(),
            held,
            next_links,
            held_links: links(&held.document),
        }
    }

    fn next(&self) -> Option<&'a GraphDocument> {
        self.next.map(|next| &next.document)
    }

    /// Whether the stored link to an entity needs no change.
    fn keeps(&self, entity: &str) -> bool {
        !self.held.inconsistent && self.next_links.get(entity) == self.held_links.get(entity)
    }
}

/// The ids of the entities that the chunks name before or after the write, in ascending order.
pub(super) fn entities(steps: &[Step<'_>]) -> Vec<Value> {
    let named = steps.iter().flat_map(|step| step.next_links.keys().chain(step.held_links.keys()));
    let ids: BTreeSet<_> = named.map(|id| entity(id)).filter(|id| !id.is_empty()).collect();
    ids.into_iter().map(Value::from).collect()
}

/// The statements that have rows, in the order in which they must run.
pub(super) fn statements(steps: &[Step<'_>], groups: &Groups) -> Vec<Statement> {
    let relations = relations(steps);
    let entities = tallies(steps);
    let orphans = entities.iter().filter(|(_, tally)| !tally.left.is_empty()).map(|(id, _)| (*id).into());
    let left = entities.iter().filter(|(_, tally)| tally.best.is_none()).map(|(id, _)| (*id).into());
    [
        (cypher::COUNT_ENTITIES, "ids", left.collect()),
        (cypher::UNLINK, "rows", steps.iter().filter_map(unlink).collect()),
        (cypher::LEAVE_DATASETS, "ids", steps.iter().filter(|step| leaves(step)).map(|step| step.id.into()).collect()),
        (cypher::REMOVE_EVIDENCE, "rows", removed_evidence(&relations)),
        (cypher::DELETE, "ids", steps.iter().filter(|step| step.next.is_none()).map(|s| s.id.into()).collect()),
        (cypher::CHUNKS, "rows", steps.iter().filter_map(chunk).collect()),
        (cypher::PROJECTS, "ids", groups.projects()),
        (cypher::DATASETS, "ids", groups.datasets()),
        (cypher::PART_OF, "rows", groups.part_of()),
        (cypher::JOIN_DATASETS, "rows", joined_datasets(steps)),
        (cypher::ADD_EVIDENCE, "rows", added_evidence(&relations)),
        (cypher::ENTITIES, "rows", entities.iter().filter_map(|(id, tally)| tally.newest(id)).collect()),
        (cypher::RECOMPUTE_ENTITIES, "rows", entities.iter().filter_map(|(id, tally)| tally.recompute(id)).collect()),
        (cypher::RECOMPUTE_RELATIONS, "rows", relations_to_recompute(&relations)),
        (cypher::ORPHANS, "ids", orphans.collect()),
    ]
    .into_iter()
    .filter(|(_, _, rows): &(_, _, Vec<Value>)| !rows.is_empty())
    .map(|(text, parameter, rows)| {
        Statement::new(text).with(parameter, rows).with("highest", SyncVersion::HIGHEST_SHOWN.signed())
    })
    .collect()
}

fn chunk(step: &Step<'_>) -> Option<Value> {
    let next = step.next()?;
    let new = step.next_links.iter().filter(|(id, _)| !step.keeps(id));
    Some(row([
        step.id.into(),
        next.content_hash.as_str().into(),
        next.chunk_type.as_str().into(),
        next.source_type.as_str().into(),
        next.system_origin.as_str().into(),
        next.created_at.as_str().into(),
        next.updated_at.as_str().into(),
        step.version.signed().into(),
        new.map(|(entity, link)| link_row(entity, link)).collect(),
    ]))
}

fn unlink(step: &Step<'_>) -> Option<Value> {
    // Deleting a chunk deletes its links.
    step.next?;
    if step.held.inconsistent {
        return Some(row([step.id.into(), Value::Null]));
    }
    let gone: Vec<_> = step.held_links.keys().filter(|id| !step.keeps(id)).copied().collect();
    (!gone.is_empty()).then(|| row([step.id.into(), list(&gone)]))
}

/// Whether the chunk changes its data set. A deleted chunk does not.
fn moves(step: &Step<'_>) -> bool {
    step.next().is_some_and(|next| next.dataset != step.held.document.dataset)
}

fn leaves(step: &&Step<'_>) -> bool {
    moves(step) && step.held.document.dataset.is_some()
}

fn joined_datasets(steps: &[Step<'_>]) -> Vec<Value> {
    let moved = steps.iter().filter(|step| moves(step));
    let mut pairs: Vec<_> = moved.filter_map(|step| Some((step.next()?.dataset.as_deref()?, step.id))).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(dataset, id)| row([dataset.into(), id.into()])).collect()
}

/// The data sets and projects that the batch writes.
pub(super) fn groups(steps: &[Step<'_>], known: &Known) -> Groups {
    let stated = steps.iter().filter_map(|step| {
        let next = step.next()?;
        let (dataset, project) = (next.dataset.as_deref(), next.project.as_deref());
        let always = step.thorough || moves(step);
        Some(Stated { version: step.version, chunk: step.id, dataset, project, always })
    });
    Groups::of(stated, known)
}

/// The effect of a whole batch on one entity.
#[derive(Default)]
struct Tally<'a> {
    /// The newest statement about it: version, chunk, mention.
    best: Option<(SyncVersion, &'a str, &'a Mention)>,
    /// The earliest creation and the latest update of the written chunks that contain it.
    seen: Option<(Time, Time)>,
    /// Chunks that no longer contain it.
    left: Vec<&'a str>,
    /// Stored creation (`firsts`) and update times (`lasts`) of its supporters that this batch removes, or replaces by a
    /// later creation or an earlier update.
    firsts: Vec<&'a str>,
    lasts: Vec<&'a str>,
}

fn tallies<'a>(steps: &'a [Step<'_>]) -> BTreeMap<&'a str, Tally<'a>> {
    let mut tallies = BTreeMap::<&str, Tally<'_>>::new();
    for step in steps {
        for (id, link) in &step.next_links {
            tallies.entry(id).or_default().add(step, &link.mention);
        }
        for id in step.held_links.keys().map(|id| entity(id)).filter(|id| !id.is_empty()) {
            tallies.entry(id).or_default().remove(step, id);
        }
    }
    tallies
}

impl<'a> Tally<'a> {
    /// Takes in a chunk that contains the entity after the write.
    fn add(&mut self, step: &'a Step<'_>, mention: &'a Mention) {
        let stated = (step.version, step.id, mention);
        if self.best.is_none_or(|(version, chunk, _)| (stated.0, stated.1) > (version, chunk)) {
            self.best = Some(stated);
        }
        if let Some(Next { created, updated, .. }) = step.next {
            let (first, last) = self.seen.unwrap_or((*created, *updated));
            self.seen = Some((first.min(*created), last.max(*updated)));
        }
    }

    /// Takes in a chunk that contains the entity before the write: what the write removes of it.
    fn remove(&mut self, step: &'a Step<'_>, entity: &str) {
        let (held, next) = (&step.held.document, step.next.filter(|_| step.next_links.contains_key(entity)));
        if next.is_none() {
            self.left.push(step.id);
        }
        if next.is_none_or(|next| canonical(&held.created_at).is_none_or(|held| next.created > held)) {
            self.firsts.push(&held.created_at);
        }
        if next.is_none_or(|next| canonical(&held.updated_at).is_none_or(|held| held > next.updated)) {
            self.lasts.push(&held.updated_at);
        }
    }

    /// The row for [`cypher::ENTITIES`]; `None` if no written chunk contains the entity.
    fn newest(&self, id: &str) -> Option<Value> {
        let ((version, chunk, mention), (first, last)) = (self.best?, self.seen?);
        Some(row([
            id.into(),
            chunk.into(),
            version.signed().into(),
            mention.name.as_str().into(),
            mention.kind.as_str().into(),
            mention.confidence.into(),
            first.to_string().into(),
            last.to_string().into(),
        ]))
    }

    /// The row for [`cypher::RECOMPUTE_ENTITIES`]; `None` if the batch removes nothing that could have decided.
    fn recompute(&self, id: &str) -> Option<Value> {
        let taken = !(self.left.is_empty() && self.firsts.is_empty() && self.lasts.is_empty());
        taken.then(|| row([id.into(), list(&self.left), list(&self.firsts), list(&self.lasts)]))
    }
}

/// The time, if the text is in the form in which the service writes it.
fn canonical(stored: &str) -> Option<Time> {
    stored.parse::<Time>().ok().filter(|time| time.to_string() == stored)
}

/// Source, target and type of a relation.
type Key<'a> = (&'a str, &'a str, &'a str);

/// The effect of a whole batch on one relation.
#[derive(Default)]
struct Evidence<'a> {
    /// Chunks to remove from the evidence list, including those that are added to it again.
    struck: Vec<&'a str>,
    /// Chunks that are no longer evidence.
    left: Vec<&'a str>,
    /// Chunks to add to the evidence list.
    added: Vec<&'a str>,
    /// The newest statement about it: version, chunk, confidence.
    best: Option<(SyncVersion, &'a str, f64)>,
}

fn relations<'a>(steps: &'a [Step<'_>]) -> BTreeMap<Key<'a>, Evidence<'a>> {
    let mut found = BTreeMap::<Key<'_>, Evidence<'_>>::new();
    for step in steps {
        let held = by_key(&step.held.document);
        let next = step.next().map(by_key).unwrap_or_default();
        for (key, confidence) in &next {
            let evidence = found.entry(*key).or_default();
            if step.held.inconsistent || !held.contains_key(key) {
                evidence.added.push(step.id);
            }
            let stated = (step.version, step.id, *confidence);
            if evidence.best.is_none_or(|best| (stated.0, stated.1) > (best.0, best.1)) {
                evidence.best = Some(stated);
            }
        }
        for key in held.keys() {
            let evidence = found.entry(*key).or_default();
            if step.held.inconsistent || !next.contains_key(key) {
                evidence.struck.push(step.id);
            }
            if !next.contains_key(key) {
                evidence.left.push(step.id);
            }
        }
    }
    found
}

fn by_key(document: &GraphDocument) -> BTreeMap<Key<'_>, f64> {
    document.relations.iter().map(|r| ((r.source.as_str(), r.target.as_str(), r.kind.as_str()), r.confidence)).collect()
}

fn removed_evidence(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<Value> {
    let struck = relations.iter().filter(|(_, evidence)| !evidence.struck.is_empty());
    struck.map(|((s, t, kind), e)| row([(*s).into(), (*t).into(), (*kind).into(), list(&e.struck)])).collect()
}

fn relations_to_recompute(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<Value> {
    let lost = relations.iter().filter(|(_, evidence)| !evidence.left.is_empty());
    lost.map(|((s, t, kind), e)| row([(*s).into(), (*t).into(), (*kind).into(), list(&e.left)])).collect()
}

fn added_evidence(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<Value> {
    let to_row = |((source, target, kind), evidence): (&Key<'_>, &Evidence<'_>)| {
        let (version, chunk, confidence) = evidence.best?;
        Some(row([
            (*source).into(),
            (*target).into(),
            (*kind).into(),
            list(&evidence.added),
            chunk.into(),
            version.signed().into(),
            confidence.into(),
        ]))
    };
    relations.iter().filter_map(to_row).collect()
}
