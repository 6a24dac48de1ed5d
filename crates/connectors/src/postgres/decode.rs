//! Decodes a row into its state. A row is accepted whichever program wrote it: a missing value gets a default, and an
//! invalid value counts as missing. Pure, so that the same row always decodes to the same state.

use chunk_sync_model::chunk::{
    ChunkType, CodeMetadata, Dense, Embeddings, Entity, EntityType, Graph, Location, Metadata, Organization,
    Relationship, Source, SourceType, Sparse,
};
use chunk_sync_model::version::Origin;
use chunk_sync_model::{Chunk, Limits, State, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::cell::Indexed;
use super::rest::{KEY, Rest};
use super::row::RowImage;

/// A decoded row.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The row as a state.
    pub state: State,
    /// Required fields of a chunk that the row does not have and that got a default.
    pub defaults: Vec<&'static str>,
}

/// Decodes a row. `at` is the default for its times; `limits` gives the embedding model when the row does not name it.
#[must_use]
pub fn decode(mut row: RowImage, limits: &Limits, at: Time) -> Decoded {
    let (mut extra, rest) = metadata(row.metadata.take());
    let mut defaults = Vec::new();
    let content = or_default(&mut defaults, "content", row.content.take(), String::new);
    let chunk_type = or_default(&mut defaults, "chunk_type", named(row.chunk_type.as_deref()), || chunk_type(&row));
    let kind = or_default(&mut defaults, "source_type", named(row.source_type.as_deref()), || SourceType::Api);
    let location = location(&row, &rest, &content, &mut defaults);
    let times = times(&row, &mut extra, at, &mut defaults);
    let organization = Organization {
        project_id: row.project_id,
        dataset_id: row.dataset_id,
        cognee_dataset: row.cognee_dataset_id.map(|id| id.to_string()).or(rest.cognee_dataset.clone()),
        scope: rest.scope,
    };
    let state = State {
        embedding_stale: rest.embedding_stale.unwrap_or_default(),
        chunk: Chunk {
            id: row.id,
            system_origin: rest.system_origin.unwrap_or_else(|| origin(&organization)),
            content,
            summary: row.summary.take(),
            chunk_type,
            code_metadata: code_metadata(&mut row, &rest),
            source: Source {
                kind,
                url: row.source_url.take(),
                path: row.relative_path.take(),
                repo: rest.repo.clone(),
                branch: rest.branch.clone(),
                commit: rest.commit.clone(),
            },
            location,
            graph: graph(&mut row, &rest),
            embeddings: embeddings(&mut row, rest, limits),
            organization,
            metadata: Metadata { extra: extra.into_iter().collect(), ..times },
        },
    };
    Decoded { state, defaults }
}

fn or_default<T>(
    defaults: &mut Vec<&'static str>,
    name: &'static str,
    said: Option<T>,
    default: impl FnOnce() -> T,
) -> T {
    said.unwrap_or_else(|| {
        defaults.push(name);
        default()
    })
}

/// Splits the metadata into the part that a chunk shows and the fields of [`Rest`].
fn metadata(said: Option<Value>) -> (Map<String, Value>, Rest) {
    let Some(Value::Object(mut map)) = said else {
        return (Map::new(), Rest::default());
    };
    let rest = map.remove(KEY).map(Rest::from_json).unwrap_or_default();
    (map, rest)
}

fn named<T: DeserializeOwned>(name: Option<&str>) -> Option<T> {
    T::deserialize(Value::from(name?)).ok()
}

fn chunk_type(row: &RowImage) -> ChunkType {
    if row.is_code == Some(true) { ChunkType::Code } else { ChunkType::Text }
}

/// The origin of a chunk without one, derived from its organization.
fn origin(organization: &Organization) -> Origin {
    match (organization.project_id, &organization.cognee_dataset) {
        (Some(_), None) => Origin::Claude,
        (None, Some(_)) => Origin::Cognee,
        _ => Origin::Hybrid,
    }
}

fn location(row: &RowImage, rest: &Rest, content: &str, defaults: &mut Vec<&'static str>) -> Location {
    let number = |column: Option<i64>, spare| column.and_then(|number| u32::try_from(number).ok()).or(spare);
    let start_char = or_default(defaults, "start_char", number(row.start_char, rest.start_char), || 0);
    let length = || start_char.saturating_add(u32::try_from(content.chars().count()).unwrap_or(u32::MAX));
    let end_char = number(row.end_char, rest.end_char).filter(|end| *end >= start_char);
    let start_line = number(row.start_line, rest.start_line);
    Location {
        start_line,
        end_line: number(row.end_line, rest.end_line).filter(|end| start_line.is_none_or(|start| *end >= start)),
        start_char,
        end_char: or_default(defaults, "end_char", end_char, length),
        chunk_index: rest.chunk_index.unwrap_or_default(),
    }
}

/// The times from their columns, else from the metadata, which loses the keys of these names.
fn times(row: &RowImage, extra: &mut Map<String, Value>, at: Time, defaults: &mut Vec<&'static str>) -> Metadata {
    let mut time = |name: &str, column: Option<Time>| column.or(from_key(extra, name));
    let said = [
        time("created_at", row.created_at),
        time("updated_at", row.updated_at),
        time("indexed_at", row.indexed_at),
        time("cognified_at", row.cognified_at),
    ];
    let [created_at, updated_at, indexed_at, cognified_at] = said;
    let updated_at =
        or_default(defaults, "updated_at", updated_at, || created_at.map_or(at, |created| created.max(at)));
    let created_at = or_default(defaults, "created_at", created_at, || updated_at.min(at)).min(updated_at);
    let processing_time_ms = from_key(extra, "processing_time_ms");
    Metadata { created_at, updated_at, indexed_at, cognified_at, processing_time_ms, extra: Default::default() }
}

fn from_key<T: DeserializeOwned>(extra: &mut Map<String, Value>, key: &str) -> Option<T> {
    T::deserialize(extra.remove(key)?).ok()
}

fn code_metadata(row: &mut RowImage, rest: &Rest) -> Option<CodeMetadata> {
    if row.language.is_none() && row.is_code != Some(true) && row.confidence.is_none() {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "compared in the precision of the column")]
    let exact = rest.confidence.filter(|exact| row.confidence.is_some_and(|cut| *exact as f32 == cut as f32));
    let confidence = exact.or(row.confidence).filter(|number| (0.0..=1.0).contains(number));
    Some(CodeMetadata {
        language: row.language.take().unwrap_or_else(|| "unknown".to_owned()),
        is_code: row.is_code.unwrap_or(true),
        confidence: confidence.unwrap_or(1.0),
        symbols: rest.symbols.clone(),
        imports: rest.imports.clone(),
        ast_features: rest.ast_features.clone(),
    })
}

fn graph(row: &mut RowImage, rest: &Rest) -> Graph {
    let refs = match row.entity_refs.take() {
        Some(Value::Array(refs)) => refs,
        _ => Vec::new(),
    };
    let mut entities: Vec<Entity> = refs.iter().filter_map(entity).collect();
    entities.sort_by(|a, b| a.id.cmp(&b.id));
    entities.dedup_by(|a, b| a.id == b.id);
    let known = |id: &str| entities.binary_search_by(|entity| entity.id.as_str().cmp(id)).is_ok();
    let mut relationships = rest.relationships.clone().unwrap_or_default();
    relationships.retain(|r| known(&r.source_entity_id) && known(&r.target_entity_id));
    relationships.sort_by(|a, b| key(a).cmp(&key(b)));
    Graph { node_id: row.graph_node_id.take(), entities, relationships }
}

fn key(relationship: &Relationship) -> impl Ord {
    (relationship.kind, &relationship.source_entity_id, &relationship.target_entity_id)
}

/// A complete entity, or one with defaults from a bare id or from an object that has an id.
fn entity(said: &Value) -> Option<Entity> {
    let named = |id: &str, name: &str| Entity {
        id: id.to_owned(),
        kind: EntityType::Concept,
        name: name.to_owned(),
        confidence: 1.0,
        source_positions: Vec::new(),
    };
    let entity = match said {
        Value::String(id) => named(id, id),
        Value::Object(map) => Entity::deserialize(said).ok().or_else(|| {
            let id = map.get("id")?.as_str()?;
            Some(named(id, map.get("name").and_then(Value::as_str).unwrap_or(id)))
        })?,
        _ => return None,
    };
    (1..=512).contains(&entity.id.len()).then_some(entity)
}

fn embeddings(row: &mut RowImage, rest: Rest, limits: &Limits) -> Embeddings {
    let belongs = |model: &str| rest.further.iter().flatten().any(|name| name == model);
    let (mut dense, mut dense_alternative) = (Vec::new(), None);
    if let Some(vector) = row.dense_vector.take().filter(|vector| vector.iter().all(|x| x.is_finite())) {
        let model = row.embedding_model.take().unwrap_or_else(|| model_of(vector.len(), limits));
        dense.push(Dense { model, vector, timestamp: rest.dense_timestamp });
    }
    for further in row.further.drain(..) {
        if further.alternative {
            dense_alternative =
                Some(further.dense).filter(|dense| rest.alternative.as_deref() == Some(dense.model.as_str()));
        } else if belongs(&further.dense.model) {
            dense.push(further.dense);
        }
    }
    // The row may now name a model that also has a further vector: the vector of the row wins, because it comes first.
    dense.sort_by(|a, b| a.model.cmp(&b.model));
    dense.dedup_by(|a, b| a.model == b.model);
    let sparse = row.sparse_vector.take().or(rest.sparse).map(in_order).map(|(indices, values)| Sparse {
        model: rest.sparse_model.unwrap_or_else(|| "splade".to_owned()),
        indices,
        values,
        timestamp: rest.sparse_timestamp,
    });
    Embeddings {
        dense,
        sparse,
        dense_alternative,
        conflict_resolution: rest.conflict_resolution,
        primary_source: rest.primary_source,
        alternative_source: rest.alternative_source,
    }
}

/// Sorts by index and drops duplicates, zeros and non-finite values, as a chunk requires; JSON may hold any.
fn in_order(sparse: Indexed) -> (Vec<u32>, Vec<f32>) {
    let mut pairs: Vec<_> = sparse.indices.into_iter().zip(sparse.values).collect();
    pairs.retain(|(_, value)| *value != 0.0 && value.is_finite());
    pairs.sort_by_key(|(index, _)| *index);
    pairs.dedup_by_key(|(index, _)| *index);
    pairs.into_iter().unzip()
}

/// The model of a vector without a name: the first configured one of that length, else the first.
fn model_of(length: usize, limits: &Limits) -> String {
    let model = limits.models.iter().find(|model| model.size == length).or(limits.models.first());
    model.map_or_else(|| "unknown".to_owned(), |model| model.model.clone())
}
