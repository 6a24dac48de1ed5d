//! Documents made again from what the graph holds. Anybody may have written there, so nothing is taken for granted: what
//! has another shape than ours reads as a value that no document of ours has, and never fails.

use std::collections::{BTreeMap, HashMap};

use chunk_sync_engine::ports::{Looked, Seen};
use chunk_sync_model::SyncVersion;
use chunk_sync_model::document::{Document, GraphDocument, Mention, Relation, sort_relations};
use neo4rs::{BoltList, BoltType, Row};
use uuid::Uuid;

use super::fault::Error;

/// What sets apart a second one of what there should be one of; no chunk contains this character.
const SECOND: char = '\0';

/// What the graph holds of a chunk.
pub(super) struct Held {
    pub(super) id: String,
    /// `None` where somebody else made the node, or we did just now.
    pub(super) version: Option<SyncVersion>,
    pub(super) document: GraphDocument,
    /// What is there is not as we leave it: twice, without an id, or said in one place and not in the other.
    pub(super) torn: bool,
    /// What the chunk itself says of relations: confidence by source, target and type.
    said: BTreeMap<[String; 3], f64>,
}

/// Documents in the order of their rows; the rows of relations say for which chunks each of them holds.
pub(super) fn held(documents: &[Row], relations: &[Row]) -> Result<Vec<Held>, Error> {
    let mut held = documents.iter().map(Held::of).collect::<Result<Vec<_>, _>>()?;
    let places: HashMap<String, usize> = held.iter().enumerate().map(|(at, held)| (held.id.clone(), at)).collect();
    for row in relations {
        let key: [String; 3] = texts(&[row.get("source")?, row.get("target")?, row.get("type")?]);
        for chunk in list(row.get("chunks")?) {
            if let Some(held) = places.get(&text(&chunk)).and_then(|at| held.get_mut(*at)) {
                held.supports(key.clone());
            }
        }
    }
    held.iter_mut().for_each(Held::finish);
    Ok(held)
}

impl Held {
    fn of(row: &Row) -> Result<Self, Error> {
        let [content_hash, chunk_type, source_type, system_origin, created_at, updated_at] =
            texts(&list(row.get("node")?));
        let mut torn = false;
        let version = match row.get("version")? {
            BoltType::Integer(version) => u64::try_from(version.value).ok().map(SyncVersion::new),
            _ => None,
        };
        let (mut entities, mut said) = (BTreeMap::new(), BTreeMap::new());
        for link in list(row.get("entities")?) {
            let link = list(link);
            let [mut id, name, kind] = texts(&link);
            if !matches!(link.first(), Some(BoltType::String(_))) {
                id = SECOND.to_string();
                torn = true;
            }
            relates(&id, &link, &mut said);
            while entities.contains_key(&id) {
                id.push(SECOND);
                torn = true;
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
        Ok(Self { id: row.get("id")?, version, document, torn, said })
    }

    /// Takes in a relation that names the chunk as evidence.
    fn supports(&mut self, key: [String; 3]) {
        let said = self.said.get(&key).copied();
        self.torn |= said.is_none();
        let [source, target, kind] = key;
        let confidence = said.unwrap_or(f64::NAN);
        self.document.relations.push(Relation { source, target, kind, confidence });
    }

    fn finish(&mut self) {
        let relations = &mut self.document.relations;
        sort_relations(relations);
        let key = |at: &Relation| (at.source.clone(), at.target.clone(), at.kind.clone());
        let twice = relations.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]));
        self.torn |= twice || relations.len() != self.said.len();
    }

    /// As the engine sees it; `None` where the id is none of ours.
    pub(super) fn seen(&self) -> Option<Seen> {
        let id = Uuid::try_parse(&self.id).ok()?;
        Some(Seen { id, version: self.version.unwrap_or_default(), fingerprint: self.document.fingerprint() })
    }

    /// The same with the document itself.
    pub(super) fn looked(self) -> Option<Looked> {
        let id = Uuid::try_parse(&self.id).ok()?;
        let version = self.version.unwrap_or_default();
        Some(Looked { id, version, document: Document::Graph(self.document) })
    }
}

/// The id of an entity, without what sets a second link to it apart; empty for one that only somebody else can have.
pub(super) fn entity(id: &str) -> &str {
    id.trim_end_matches(SECOND)
}

fn dataset(found: BoltType) -> Option<String> {
    let mut names: Vec<_> = list(found).into_iter().map(|name| text(&name)).collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(&SECOND.to_string()))
}

fn relates(source: &str, link: &[BoltType], said: &mut BTreeMap<[String; 3], f64>) {
    let column = |at: usize| link.get(at).cloned().map(list).unwrap_or_default();
    let (targets, kinds, confidences) = (column(5), column(6), column(7));
    for (at, target) in targets.iter().enumerate() {
        let kind = kinds.get(at).map_or_else(String::new, text);
        said.insert([source.to_owned(), text(target), kind], number(confidences.get(at)));
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
        other => format!("{SECOND}{other:?}"),
    }
}

fn number(value: Option<&BoltType>) -> f64 {
    match value {
        Some(BoltType::Float(number)) => number.value,
        _ => f64::NAN,
    }
}

/// One that we never write stands for all that cannot be read.
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
