//! Rebuilds documents from the stored graph. Other clients may have written to it, so no shape is assumed: a value of
//! an unexpected shape decodes to a value that no document of chunk-sync contains, and never to an error.

use std::collections::{BTreeMap, HashMap};

use chunk_sync_engine::ports::{StoredDocument, StoredFingerprint};
use chunk_sync_model::SyncVersion;
use chunk_sync_model::document::{Document, GraphDocument, Mention, Relation, sort_relations};
use neo4rs::{BoltList, BoltType, Row};
use uuid::Uuid;

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

/// Decodes documents, in the order of their rows. Each row of `relations` lists the chunks that are evidence for it.
///
/// # Errors
/// [`Error::Answer`] if a row lacks a column, or the id of a document is not text.
pub(super) fn held(documents: &[Row], relations: &[Row]) -> Result<Vec<StoredNode>, Error> {
    let mut held = documents.iter().map(StoredNode::of).collect::<Result<Vec<_>, _>>()?;
    let index_by_id: HashMap<String, usize> = held.iter().enumerate().map(|(at, held)| (held.id.clone(), at)).collect();
    for row in relations {
        let key: [String; 3] = texts(&[row.get("source")?, row.get("target")?, row.get("type")?]);
        for chunk in list(row.get("chunks")?) {
            if let Some(held) = index_by_id.get(&text(&chunk)).and_then(|at| held.get_mut(*at)) {
                held.supports(key.clone());
            }
        }
    }
    held.iter_mut().for_each(StoredNode::finish);
    Ok(held)
}

impl StoredNode {
    fn of(row: &Row) -> Result<Self, Error> {
        let [content_hash, chunk_type, source_type, system_origin, created_at, updated_at] =
            texts(&list(row.get("node")?));
        let mut inconsistent = false;
        let version = match row.get("version")? {
            BoltType::Integer(version) => u64::try_from(version.value).ok().map(SyncVersion::new),
            _ => None,
        };
        let (mut entities, mut stated) = (BTreeMap::new(), BTreeMap::new());
        for link in list(row.get("entities")?) {
            let link = list(link);
            let [mut id, name, kind] = texts(&link);
            if !matches!(link.first(), Some(BoltType::String(_))) {
                id = MARKER.to_string();
                inconsistent = true;
            }
            relates(&id, &link, &mut stated);
            while entities.contains_key(&id) {
                id.push(MARKER);
                inconsistent = true;
            }
            let mention = Mention { name, kind, confidence: number(link.get(3)), positions: positions(link.get(4)) };
            entities.insert(id, mention);
        }
        let dataset = dataset(row.get("datasets")?);
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
        Ok(Self { id: row.get("id")?, version, document, inconsistent, stated })
    }

    /// Adds a relation whose evidence list contains the chunk.
    fn supports(&mut self, key: [String; 3]) {
        let stated = self.stated.get(&key).copied();
        self.inconsistent |= stated.is_none();
        let [source, target, kind] = key;
        let confidence = stated.unwrap_or(f64::NAN);
        self.document.relations.push(Relation { source, target, kind, confidence });
    }

    fn finish(&mut self) {
        let relations = &mut self.document.relations;
        sort_relations(relations);
        let key = |at: &Relation| (at.source.clone(), at.target.clone(), at.kind.clone());
        let twice = relations.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]));
        self.inconsistent |= twice || relations.len() != self.stated.len();
    }

    /// The id, version and fingerprint for verification; `None` if the id is not a UUID.
    pub(super) fn fingerprint(&self) -> Option<StoredFingerprint> {
        let id = Uuid::try_parse(&self.id).ok()?;
        Some(StoredFingerprint {
            id,
            version: self.version.unwrap_or_default(),
            fingerprint: self.document.fingerprint(),
        })
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

fn dataset(found: BoltType) -> Option<String> {
    let mut names: Vec<_> = list(found).into_iter().map(|name| text(&name)).collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(&MARKER.to_string()))
}

fn relates(source: &str, link: &[BoltType], stated: &mut BTreeMap<[String; 3], f64>) {
    let column = |at: usize| link.get(at).cloned().map(list).unwrap_or_default();
    let (targets, kinds, confidences) = (column(5), column(6), column(7));
    for (at, target) in targets.iter().enumerate() {
        let kind = kinds.get(at).map_or_else(String::new, text);
        stated.insert([source.to_owned(), text(target), kind], number(confidences.get(at)));
    }
}

fn list(value: BoltType) -> Vec<BoltType> {
    match value {
        BoltType::List(BoltList { value }) => value,
        _ => Vec::new(),
    }
}

fn texts<const N: usize>(values: &[BoltType]) -> [String; N] {
    std::array::from_fn(|at| values.get(at).map_or_else(String::new, text))
}

fn text(value: &BoltType) -> String {
    match value {
        BoltType::String(text) => text.value.clone(),
        BoltType::Null(_) => String::new(),
        other => format!("{MARKER}{other:?}"),
    }
}

fn number(value: Option<&BoltType>) -> f64 {
    match value {
        Some(BoltType::Float(number)) => number.value,
        _ => f64::NAN,
    }
}

/// The positions, or `[u64::MAX]`, which is never written, if the value is not a list of integers from 0 up.
fn positions(value: Option<&BoltType>) -> Vec<u64> {
    let one = |value: &BoltType| match value {
        BoltType::Integer(position) => u64::try_from(position.value).ok(),
        _ => None,
    };
    match value {
        Some(BoltType::List(list)) => list.value.iter().map(one).collect::<Option<_>>().unwrap_or(vec![u64::MAX]),
        _ => vec![u64::MAX],
    }
}
