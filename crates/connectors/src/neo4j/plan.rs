//! From what chunks hold and what they are to hold to the statements that make the difference. Pure: no server is asked.

use std::collections::{BTreeMap, BTreeSet};

use chunk_sync_model::document::{GraphDocument, Mention};
use chunk_sync_model::{SyncVersion, Time};
use neo4rs::{BoltType, Query, query};

use super::cypher;
use super::decode::Held;
use super::encode::{Change, Next, map, node, said};

/// A chunk that is to be written, and what the graph holds of it.
pub(super) struct Step<'a> {
    pub(super) change: &'a Change,
    pub(super) held: Held,
}

impl Step<'_> {
    fn id(&self) -> &str {
        &self.change.id
    }

    fn next(&self) -> Option<&GraphDocument> {
        self.change.next.as_ref().map(|next| &next.document)
    }

    /// What the chunk said of the entity. A second one of the same id is somebody's copy of the first.
    fn said(&self, entity: &str) -> Option<&Mention> {
        self.held.document.entities.get(entity)
    }

    /// What the chunk is to say.
    fn says(&self, entity: &str) -> Option<&Mention> {
        self.next()?.entities.get(entity)
    }

    /// Whether what stands of the entity can stay as it is.
    fn keeps(&self, entity: &str) -> bool {
        !self.held.doubled && self.said(entity).is_some() && self.said(entity) == self.says(entity)
    }
}

/// The entities that the chunks said or will say something of, ascending.
pub(super) fn entities(steps: &[Step<'_>]) -> BTreeSet<String> {
    let held = steps.iter().flat_map(|step| step.held.document.entities.keys());
    let next = steps.iter().filter_map(Step::next).flat_map(|document| document.entities.keys());
    held.map(|id| id.trim_end_matches('\0')).chain(next.map(String::as_str)).map(str::to_owned).collect()
}

/// The statements, in their order.
pub(super) fn statements(steps: &[Step<'_>]) -> Vec<Query> {
    let relations = relations(steps);
    let entities = tallies(steps);
    let orphans = entities.iter().filter(|(_, tally)| !tally.left.is_empty()).map(|(id, _)| (*id).into());
    let planned = [
        (cypher::UNLINK, "rows", unlink(steps)),
        (cypher::LEAVE, "ids", steps.iter().filter(|step| leaves(step)).map(|step| step.id().into()).collect()),
        (cypher::UNSAY, "rows", unsay(&relations)),
        (cypher::DELETE, "ids", steps.iter().filter(|s| s.next().is_none()).map(|s| s.id().into()).collect()),
        (cypher::CHUNKS, "rows", steps.iter().filter_map(chunk).collect()),
        (cypher::PROJECTS, "ids", projects(steps)),
        (cypher::DATASETS, "ids", datasets(steps)),
        (cypher::PART_OF, "rows", part_of(steps)),
        (cypher::BELONG, "rows", belong(steps)),
        (cypher::LINK, "rows", link(steps)),
        (cypher::SAY, "rows", say(&relations)),
        (cypher::ENTITIES, "rows", entities.iter().filter_map(|(id, tally)| tally.newest(id)).collect()),
        (cypher::ENTITIES_AGAIN, "rows", entities.iter().filter_map(|(id, tally)| tally.again(id)).collect()),
        (cypher::RELATIONS_AGAIN, "rows", relations_again(&relations)),
        (cypher::ORPHANS, "ids", orphans.collect()),
    ];
    let needed = planned.into_iter().filter(|(.., rows): &(_, _, Vec<BoltType>)| !rows.is_empty());
    needed.map(|(statement, name, rows)| query(statement).param(name, rows)).collect()
}

fn chunk(step: &Step<'_>) -> Option<BoltType> {
    Some(map([("id", step.id().into()), ("node", node(step.next()?, step.change.version))]))
}

fn unlink(steps: &[Step<'_>]) -> Vec<BoltType> {
    // A chunk that is deleted takes its links with it.
    let staying = steps.iter().filter(|step| step.next().is_some());
    let row = |step: &Step<'_>| {
        let gone = step.held.document.entities.keys().filter(|id| !step.keeps(id));
        let gone: Vec<BoltType> = gone.map(|id| id.trim_end_matches('\0').into()).collect();
        (!gone.is_empty()).then(|| map([("chunk", step.id().into()), ("entities", gone.into())]))
    };
    staying.filter_map(row).collect()
}

fn link(steps: &[Step<'_>]) -> Vec<BoltType> {
    let rows = |step: &Step<'_>| -> Vec<BoltType> {
        let said_now = step.next().into_iter().flat_map(|document| &document.entities);
        let new = said_now.filter(|(id, _)| !step.keeps(id));
        new.map(|(id, mention)| {
            map([("chunk", step.id().into()), ("entity", id.as_str().into()), ("said", said(mention))])
        })
        .collect()
    };
    steps.iter().flat_map(rows).collect()
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
    let mut rows: Vec<_> = moved.filter_map(|step| Some((step.next()?.dataset.as_deref()?, step.id()))).collect();
    rows.sort_unstable();
    rows.into_iter().map(|(dataset, id)| map([("chunk", id.into()), ("dataset", dataset.into())])).collect()
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
            let said = (step.change.version, project.as_str());
            last.entry(dataset).and_modify(|held| *held = said.max(*held)).or_insert(said);
        }
    }
    let row =
        |(dataset, (_, project)): (&str, (_, &str))| map([("dataset", dataset.into()), ("project", project.into())]);
    last.into_iter().map(row).collect()
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
        if let Some(next) = &step.change.next {
            for (id, mention) in &next.document.entities {
                tallies.entry(id).or_default().says(step, mention, next);
            }
        }
        for id in step.held.document.entities.keys() {
            let id = id.trim_end_matches('\0');
            tallies.entry(id).or_default().said(step, id);
        }
    }
    tallies
}

impl<'a> Tally<'a> {
    fn says(&mut self, step: &'a Step<'_>, mention: &'a Mention, next: &Next) {
        let said = (step.change.version, step.id(), mention);
        if self.best.is_none_or(|(version, chunk, _)| (said.0, said.1) > (version, chunk)) {
            self.best = Some(said);
        }
        let (first, last) = self.seen.unwrap_or((next.created, next.updated));
        self.seen = Some((first.min(next.created), last.max(next.updated)));
    }

    fn said(&mut self, step: &'a Step<'_>, entity: &str) {
        let (held, next) = (&step.held.document, step.next().filter(|next| next.entities.contains_key(entity)));
        if next.is_none() {
            self.left.push(step.id());
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
        Some(map([
            ("id", id.into()),
            ("chunk", chunk.into()),
            ("version", version.signed().into()),
            ("name", mention.name.as_str().into()),
            ("type", mention.kind.as_str().into()),
            ("confidence", mention.confidence.into()),
            ("first", first.to_string().into()),
            ("last", last.to_string().into()),
        ]))
    }

    fn again(&self, id: &str) -> Option<BoltType> {
        let taken = !(self.left.is_empty() && self.firsts.is_empty() && self.lasts.is_empty());
        taken.then(|| {
            map([
                ("id", id.into()),
                ("left", texts(&self.left)),
                ("firsts", texts(&self.firsts)),
                ("lasts", texts(&self.lasts)),
            ])
        })
    }
}

fn texts(texts: &[&str]) -> BoltType {
    texts.iter().copied().collect()
}

/// Source, target and type of a relation.
type Key<'a> = (&'a str, &'a str, &'a str);

/// What the chunks of a batch, taken together, mean for a relation.
#[derive(Default)]
struct Evidence<'a> {
    /// Chunks whose word is struck off the lists, because it is gone or another now.
    struck: Vec<&'a str>,
    /// Chunks that are no evidence any more.
    left: Vec<&'a str>,
    /// Chunks whose word is put on the lists.
    added: Vec<(&'a str, f64)>,
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
            if step.held.doubled || held.get(key) != Some(confidence) {
                evidence.added.push((step.id(), *confidence));
            }
            let said = (step.change.version, step.id(), *confidence);
            if evidence.best.is_none_or(|best| (said.0, said.1) > (best.0, best.1)) {
                evidence.best = Some(said);
            }
        }
        for (key, confidence) in &held {
            let evidence = found.entry(*key).or_default();
            if step.held.doubled || next.get(key) != Some(confidence) {
                evidence.struck.push(step.id());
            }
            if !next.contains_key(key) {
                evidence.left.push(step.id());
            }
        }
    }
    found
}

fn by_key(document: &GraphDocument) -> BTreeMap<Key<'_>, f64> {
    document.relations.iter().map(|r| ((r.source.as_str(), r.target.as_str(), r.kind.as_str()), r.confidence)).collect()
}

fn unsay(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    rows(relations, |e| (!e.struck.is_empty()).then(|| [("chunks", texts(&e.struck))]))
}

fn relations_again(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    rows(relations, |e| (!e.left.is_empty()).then(|| [("left", texts(&e.left))]))
}

fn say(relations: &BTreeMap<Key<'_>, Evidence<'_>>) -> Vec<BoltType> {
    rows(relations, |evidence| {
        let (version, chunk, confidence) = evidence.best?;
        Some([
            ("chunks", evidence.added.iter().map(|(chunk, _)| *chunk).collect()),
            ("confidences", evidence.added.iter().map(|(_, confidence)| *confidence).collect()),
            ("chunk", chunk.into()),
            ("version", version.signed().into()),
            ("confidence", confidence.into()),
        ])
    })
}

/// A row for each relation of which there is something to say.
fn rows<'a, const N: usize>(
    relations: &BTreeMap<Key<'a>, Evidence<'a>>,
    fields: impl Fn(&Evidence<'a>) -> Option<[(&'static str, BoltType); N]>,
) -> Vec<BoltType> {
    let row = |((source, target, kind), evidence): (&Key<'a>, &Evidence<'a>)| {
        let key = [("source", (*source).into()), ("target", (*target).into()), ("type", (*kind).into())];
        Some(map(key.into_iter().chain(fields(evidence)?)))
    };
    relations.iter().filter_map(row).collect()
}
