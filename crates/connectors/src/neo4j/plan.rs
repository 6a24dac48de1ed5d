//! From what chunks hold and what they are to hold to the statements that make the difference. Pure: no server is asked.

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_model::document::{GraphDocument, Mention};
use chunk_sync_model::{SyncVersion, Time};
use neo4rs::{BoltNull, BoltType};

use super::cypher;
use super::decode::{Held, entity};
use super::encode::{Change, Link, Next, link_row, links, list, row};

/// A chunk that is to be written, what the graph holds of it, and the links on which either stands.
pub(super) struct Step<'a> {
    id: &'a str,
    version: SyncVersion,
    next: Option<&'a Next>,
    held: &'a Held,
    says: BTreeMap<&'a str, Link>,
    said: BTreeMap<&'a str, Link>,
}

impl<'a> Step<'a> {
    pub(super) fn new(change: &'a Change, held: &'a Held) -> Self {
        let says = change.next.as_ref().map(|next| links(&next.document)).unwrap_or_default();
        let Change { id, version, next } = change;
        Self { id, version: *version, next: next.as_ref(), held, says, said: links(&held.document) }
    }

    fn next(&self) -> Option<&'a GraphDocument> {
        self.next.map(|next| &next.document)
    }

    /// Whether the link to an entity can stay as it is.
    fn keeps(&self, entity: &str) -> bool {
        !self.held.torn && self.says.get(entity) == self.said.get(entity)
    }
}

/// The entities that the chunks said or will say something of, ascending.
pub(super) fn entities(steps: &[Step<'_>]) -> Vec<BoltType> {
    let named = steps.iter().flat_map(|step| step.says.keys().chain(step.said.keys()));
    let ids: BTreeSet<_> = named.map(|id| entity(id)).filter(|id| !id.is_empty()).collect();
    ids.into_iter().map(BoltType::from).collect()
}

/// A statement, and the rows of its one parameter.
pub(super) struct Statement {
    pub(super) text: &'static str,
    pub(super) parameter: &'static str,
    pub(super) rows: Vec<BoltType>,
}

/// The statements, in their order.
pub(super) fn statements(steps: &[Step<'_>]) -> Vec<Statement> {
    let relations = relations(steps);
    let entities = tallies(steps);
    let orphans = entities.iter().filter(|(_, tally)| !tally.left.is_empty()).map(|(id, _)| (*id).into());
    [
        (cypher::UNLINK, "rows", steps.iter().filter_map(unlink).collect()),
        (cypher::LEAVE, "ids", steps.iter().filter(|step| leaves(step)).map(|step| step.id.into()).collect()),
        (cypher::UNSAY, "rows", unsay(&relations)),
        (cypher::DELETE, "ids", steps.iter().filter(|step| step.next.is_none()).map(|s| s.id.into()).collect()),
        (cypher::CHUNKS, "rows", steps.iter().filter_map(chunk).collect()),
        (cypher::PROJECTS, "ids", projects(steps)),
        (cypher::DATASETS, "ids", datasets(steps)),
        (cypher::PART_OF, "rows", part_of(steps)),
        (cypher::BELONG, "rows", belong(steps)),
        (cypher::SAY, "rows", say(&relations)),
        (cypher::ENTITIES, "rows", entities.iter().filter_map(|(id, tally)| tally.newest(id)).collect()),
        (cypher::ENTITIES_AGAIN, "rows", entities.iter().filter_map(|(id, tally)| tally.again(id)).collect()),
        (cypher::RELATIONS_AGAIN, "rows", relations_again(&relations)),
        (cypher::ORPHANS, "ids", orphans.collect()),
    ]
    .map(|(text, parameter, rows)| Statement { text, parameter, rows })
    .into()
}

fn chunk(step: &Step<'_>) -> Option<BoltType> {
    let next = step.next()?;
    let new = step.says.iter().filter(|(id, _)| !step.keeps(id));
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

fn unlink(step: &Step<'_>) -> Option<BoltType> {
    // A chunk that is deleted takes its links with it.
    step.next?;
    if step.held.torn {
        return Some(row([step.id.into(), BoltType::Null(BoltNull)]));
    }
    let gone: Vec<_> = step.said.keys().filter(|id| !step.keeps(id)).copied().collect();
    (!gone.is_empty()).then(|| row([step.id.into(), list(&gone)]))
}

/// Whether the chunk moves, from where it is to another data set or to none.
fn moves(step: &Step<'_>) -> bool {
    step.next().is_some_and(|next| next.dataset != step.held.document.dataset)
}

fn leaves(step: &&Step<'_>) -> bool {
    moves(step) && step.held.document.dataset.is_some()
}

fn belong(steps: &[Step<'_>]) -> Vec<BoltType> {
    let moved = steps.iter().filter(|step| moves(step));
    let mut pairs: Vec<_> = moved.filter_map(|step| Some((step.next()?.dataset.as_deref()?, step.id))).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(dataset, id)| row([dataset.into(), id.into()])).collect()
}

fn projects(steps: &[Step<'_>]) -> Vec<BoltType> {
    let ids: BTreeSet<_> = steps.iter().filter_map(|step| step.next()?.project.as_deref()).collect();
    ids.into_iter().map(BoltType::from).collect()
}

fn datasets(steps: &[Step<'_>]) -> Vec<BoltType> {
    let ids: BTreeSet<_> = steps.iter().filter_map(|step| step.next()?.dataset.as_deref()).collect();
    ids.into_iter().map(BoltType::from).collect()
}

fn part_of(steps: &[Step<'_>]) -> Vec<BoltType> {
    let mut last = BTreeMap::<&str, (SyncVersion, &str)>::new();
    for step in steps {
        let Some(next) = step.next() else { continue };
        if let (Some(dataset), Some(project)) = (&next.dataset, &next.project) {
            let said = (step.version, project.as_str());
            last.entry(dataset).and_modify(|held| *held = said.max(*held)).or_insert(said);
        }
    }
    last.into_iter().map(|(dataset, (_, project))| row([dataset.into(), project.into()])).collect()
}

/// What the chunks of a batch, taken together, mean for an entity.
#[derive(Default)]
struct Tally<'a> {
    /// The newest of what is said now: version, chunk, what it says.
    best: Option<(SyncVersion, &'a str, &'a Mention)>,
    /// When the first of those who say something now was created, and the last updated.
    seen: Option<(Time, Time)>,
    /// Chunks that say nothing of it any more.
    left: Vec<&'a str>,
    /// Times that chunks had which had said something, and have no more.
    firsts: Vec<&'a str>,
    lasts: Vec<&'a str>,
}

fn tallies<'a>(steps: &'a [Step<'_>]) -> BTreeMap<&'a str, Tally<'a>> {
    let mut tallies = BTreeMap::<&str, Tally<'_>>::new();
    for step in steps {
        for (id, link) in &step.says {
            tallies.entry(id).or_default().says(step, &link.mention);
        }
        for id in step.said.keys().map(|id| entity(id)).filter(|id| !id.is_empty()) {
            tallies.entry(id).or_default().said(step, id);
        }
    }
    tallies
}

impl<'a> Tally<'a> {
    fn says(&mut self, step: &'a Step<'_>, mention: &'a Mention) {
        let said = (step.version, step.id, mention);
        if self.best.is_none_or(|(version, chunk, _)| (said.0, said.1) > (version, chunk)) {
            self.best = Some(said);
        }
        if let Some(Next { created, updated, .. }) = step.next {
            let (first, last) = self.seen.unwrap_or((*created, *updated));
            self.seen = Some((first.min(*created), last.max(*updated)));
        }
    }

    fn said(&mut self, step: &'a Step<'_>, entity: &str) {
        let (held, next) = (&step.held.document, step.next().filter(|_| step.says.contains_key(entity)));
        if next.is_none() {
            self.left.push(step.id);
        }
        if next.is_none_or(|next| next.created_at != held.created_at) {
            self.firsts.push(&held.created_at);
        }
        if next.is_none_or(|next| next.updated_at != held.updated_at) {
            self.lasts.push(&held.updated_at);
        }
    }

    fn newest(&self, id: &str) -> Option<BoltType> {
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

    fn again(&self, id: &str) -> Option<BoltType> {
        let taken = !(self.left.is_empty() && self.firsts.is_empty() && self.lasts.is_empty());
        taken.then(|| row([id.into(), list(&self.left), list(&self.firsts), list(&self.lasts)]))
    }
}

/// Source, target and type of a relation.
type Key<'a> = (&'a str, &'a str, &'a str);

/// What the chunks of a batch, taken together, mean for a relation.
#[derive(Default)]
struct Evidence<'a> {
    /// Chunks that are struck off the list, if only to be put on it anew.
    struck: Vec<&'a str>,
    /// Chunks that are no evidence any more.
    left: Vec<&'a str>,
    /// Chunks that are put on the list.
    added: Vec<&'a str>,
    /// The newest of what is said now: version, chunk, confidence.
    best: Option<(SyncVersion, &'a str, f64)>,
}

fn relations<'a>(steps: &'a [Step<'_>]) -> BTreeMap<Key<'a>, Evidence<'a>> {
    let mut found = BTreeMap::<Key<'_>, Evidence<'_>>::new();
    for step in steps {
        let held = by_key(&step.held.document);
        let next = step.next().map(by_key).unwrap_or_default();
        for (key, confidence) in &next {
            let evidence = found.entry(*key).or_default();
            if step.held.torn || !held.contains_key(key) {
                evidence.added.push(step.id);
            }
            let said = (step.version, step.id, *confidence);
            if evidence.best.is_none_or(|best| (said.0, said.1) > (best.0, best.1)) {
                evidence.best = Some(said);
            }
        }
        for key in held.keys() {
            let evidence = found.entry(*key).or_default();
            if step.held.torn || !next.contains_key(key) {
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

fn unsay(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    let struck = relations.iter().filter(|(_, evidence)| !evidence.struck.is_empty());
    struck.map(|((s, t, kind), e)| row([(*s).into(), (*t).into(), (*kind).into(), list(&e.struck)])).collect()
}

fn relations_again(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    let lost = relations.iter().filter(|(_, evidence)| !evidence.left.is_empty());
    lost.map(|((s, t, kind), e)| row([(*s).into(), (*t).into(), (*kind).into(), list(&e.left)])).collect()
}

fn say(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    let said = |((source, target, kind), evidence): (&Key<'_>, &Evidence<'_>)| {
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
    relations.iter().filter_map(said).collect()
}
