//! Rebuilds documents from the stored graph. Other clients may have written to it, so no shape is assumed: a value of
//! an unexpected shape decodes to a value that no document of chunk-sync contains, and never to an error.

use std::collections::{BTreeMap, HashMap};

use chunk_sync_engine::ports::StoredDocument;
use chunk_sync_model::SyncVersion;
use chunk_sync_model::document::{Document, GraphDocument, Mention, Relation, sort_relations};
use uuid::Uuid;

use super::bolt::{Row, Value};
use super::fault::Error;

/// Marks a duplicate of something that should exist once, and a value of an unexpected type. No chunk contains this
/// character.
const MARKER: char = '\0';

/// The stored graph data of one chunk.
pub(super) struct StoredNode {
    pub(super) id: String,
    /// `None` if another client created the node, or the current transaction did.
    pub(super) version: Option<SyncVersion>,
    pub(super) document: GraphDocument,
    /// The stored data is not what chunk-sync writes: a link or relation is duplicated, an entity has no id, or links
    /// and evidence lists disagree.
    pub(super) inconsistent: bool,
    /// The relations stored on the chunk's own links: confidence by source, target and type.
    stated: BTreeMap<[String; 3], f64>,
}

/// Decodes documents, in the order of their rows. Each row of `relations` lists the chunks that are evidence for it. Of
/// a chunk that `relies_on_links` the evidence was not read: its relations are those that its links state.
///
/// # Errors
/// [`Error::Answer`] if a row lacks a column, or the id of a document is not text.
pub(super) fn held(
    documents: &[Row],
    relations: &[Row],
    relies_on_links: impl Fn(&str) -> bool,
) -> Result<Vec<StoredNode>, Error> {
    let mut held = documents.iter().map(StoredNode::of).collect::<Result<Vec<_>, _>>()?;
    let index_by_id: HashMap<String, usize> = held.iter().enumerate().map(|(at, held)| (held.id.clone(), at)).collect();
    for row in relations {
        let key: [String; 3] = [value(row, "source")?, value(row, "target")?, value(row, "type")?].map(text);
        for chunk in list(value(row, "chunks")?) {
            if let Some(held) = index_by_id.get(&text(chunk)).and_then(|at| held.get_mut(*at)) {
                held.supports(key.clone());
            }
        }
    }
    for held in &mut held {
        if relies_on_links(&held.id) {
            held.document.relations = held.stated().collect();
            sort_relations(&mut held.document.relations);
        } else {
            held.finish();
        }
    }
    Ok(held)
}

impl StoredNode {
    fn of(row: &Row) -> Result<Self, Error> {
        let [content_hash, chunk_type, source_type, system_origin, created_at, updated_at] =
            texts(list(value(row, "node")?));
        let mut inconsistent = false;
        let version = match value(row, "version")? {
            Value::Integer(version) => u64::try_from(*version).ok().map(SyncVersion::new),
            _ => None,
        };
        let (mut entities, mut stated) = (BTreeMap::new(), BTreeMap::new());
        for link in list(value(row, "entities")?) {
            let link = list(link);
            let [mut id, name, kind] = texts(link);
            if !matches!(link.first(), Some(Value::Text(_))) {
                id = MARKER.to_string();
                inconsistent = true;
            }
            relates(&id, link, &mut stated);
            while entities.contains_key(&id) {
                id.push(MARKER);
                inconsistent = true;
            }
            let mention = Mention { name, kind, confidence: number(link.get(3)), positions: positions(link.get(4)) };
            entities.insert(id, mention);
        }
        let dataset = dataset(value(row, "datasets")?);
        let document = GraphDocument {
            content_hash,
            chunk_type,
            source_type,
            system_origin,
            created_at,
            updated_at,
            dataset,
            project: None,
            entities,
            relations: Vec::new(),
        };
        Ok(Self { id: row.text("id").ok_or(Error::Answer("id"))?.to_owned(), version, document, inconsistent, stated })
    }

    /// Adds a relation whose evidence list contains the chunk.
    fn supports(&mut self, key: [String; 3]) {
        let stated = self.stated.get(&key).copied();
        self.inconsistent |= stated.is_none();
        let [source, target, kind] = key;
        let confidence = stated.unwrap_or(f64::NAN);
        self.document.relations.push(Relation { source, target, kind, confidence });
    }

    /// The relations that the chunk's own links state.
    fn stated(&self) -> impl Iterator<Item = Relation> {
        self.stated.iter().map(|([source, target, kind], confidence)| Relation {
            source: source.clone(),
            target: target.clone(),
            kind: kind.clone(),
            confidence: *confidence,
        })
    }

    fn finish(&mut self) {
        let relations = &mut self.document.relations;
        sort_relations(relations);
        let key = |at: &Relation| (at.source.clone(), at.target.clone(), at.kind.clone());
        let twice = relations.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]));
        self.inconsistent |= twice || relations.len() != self.stated.len();
    }

    /// The id, version and document; `None` if the id is not a UUID.
    pub(super) fn into_document(self) -> Option<StoredDocument> {
        let id = Uuid::try_parse(&self.id).ok()?;
        let version = self.version.unwrap_or_default();
        Some(StoredDocument { id, version, document: Document::Graph(self.document) })
    }
}

/// The id of an entity without the markers of a duplicate link; empty for an entity without a text id, which only
/// another client can have created.
pub(super) fn entity(id: &str) -> &str {
    id.trim_end_matches(MARKER)
}

fn dataset(found: &Value) -> Option<String> {
    let mut names: Vec<_> = list(found).iter().map(text).collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(&MARKER.to_string()))
}

fn relates(source: &str, link: &[Value], stated: &mut BTreeMap<[String; 3], f64>) {
    let column = |at: usize| link.get(at).map(list).unwrap_or_default();
    let (targets, kinds, confidences) = (column(5), column(6), column(7));
    for (at, target) in targets.iter().enumerate() {
        let kind = kinds.get(at).map_or_else(String::new, text);
        stated.insert([source.to_owned(), text(target), kind], number(confidences.get(at)));
    }
}

fn value<'a>(row: &'a Row, column: &'static str) -> Result<&'a Value, Error> {
    row.get(column).ok_or(Error::Answer(column))
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::List(values) => values,
        _ => &[],
    }
}

fn texts<const N: usize>(values: &[Value]) -> [String; N] {
    std::array::from_fn(|at| values.get(at).map_or_else(String::new, text))
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Null => String::new(),
        other => format!("{MARKER}{other:?}"),
    }
}

fn number(value: Option<&Value>) -> f64 {
    match value {
        Some(Value::Float(number)) => *number,
        _ => f64::NAN,
    }
}

/// The positions, or `[u64::MAX]`, which is never written, if the value is not a list of integers from 0 up.
fn positions(value: Option<&Value>) -> Vec<u64> {
    let one = |value: &Value| match value {
        Value::Integer(position) => u64::try_from(*position).ok(),
        _ => None,
    };
    match value {
        Some(Value::List(list)) => list.iter().map(one).collect::<Option<_>>().unwrap_or(vec![u64::MAX]),
        _ => vec![u64::MAX],
    }
}
