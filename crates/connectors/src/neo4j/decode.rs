//! Documents made again from what the graph holds. Anybody may have written there, so nothing is taken for granted: what
//! has another shape than ours reads as a value that no document of ours has, and never fails.

use std::collections::BTreeMap;

use chunk_sync_engine::ports::Seen;
use chunk_sync_model::SyncVersion;
use chunk_sync_model::document::{GraphDocument, Mention, Relation, sort_relations};
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
    /// There are two of something of which there should be one.
    pub(super) doubled: bool,
}

impl Held {
    pub(super) fn of(row: &Row) -> Result<Self, Error> {
        let [content_hash, chunk_type, source_type, system_origin, created_at, updated_at] =
            texts(&list(row.get("node")?));
        let (dataset, two_datasets) = dataset(row.get("datasets")?);
        let (entities, two_entities) = entities(row.get("entities")?);
        let (relations, two_relations) = relations(row.get("relations")?);
        let version = match row.get("version")? {
            BoltType::Integer(version) => u64::try_from(version.value).ok().map(SyncVersion::new),
            _ => None,
        };
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
            relations,
        };
        Ok(Self { id: row.get("id")?, version, document, doubled: two_datasets || two_entities || two_relations })
    }

    /// As the engine sees it; `None` where the id is none of ours.
    pub(super) fn seen(&self) -> Option<Seen> {
        let id = Uuid::try_parse(&self.id).ok()?;
        Some(Seen { id, version: self.version.unwrap_or_default(), fingerprint: self.document.fingerprint() })
    }
}

fn dataset(found: BoltType) -> (Option<String>, bool) {
    let mut names: Vec<_> = list(found).into_iter().map(|name| text(&name)).collect();
    names.sort_unstable();
    let name = (!names.is_empty()).then(|| names.join(&SECOND.to_string()));
    (name, names.len() > 1)
}

fn entities(found: BoltType) -> (BTreeMap<String, Mention>, bool) {
    let mut entities = BTreeMap::new();
    let mut doubled = false;
    for link in list(found) {
        let link = list(link);
        let [mut id, name, kind] = texts(&link);
        while entities.contains_key(&id) {
            id.push(SECOND);
            doubled = true;
        }
        let mention = Mention { name, kind, confidence: number(link.get(3)), positions: positions(link.get(4)) };
        entities.insert(id, mention);
    }
    (entities, doubled)
}

fn relations(found: BoltType) -> (Vec<Relation>, bool) {
    let mut relations: Vec<_> = list(found)
        .into_iter()
        .map(|relation| {
            let relation = list(relation);
            let [source, target, kind] = texts(&relation);
            Relation { source, target, kind, confidence: number(relation.get(3)) }
        })
        .collect();
    sort_relations(&mut relations);
    let key = |relation: &Relation| (relation.source.clone(), relation.target.clone(), relation.kind.clone());
    let doubled = relations.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]));
    (relations, doubled)
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
