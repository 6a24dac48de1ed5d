//! Encodes a state as a row. Each value goes into its column if the column can hold it, else into [`Rest`]; vectors
//! without a column go into the service's own table. Pure. It must lose nothing: the row is the only copy.

use chunk_sync_model::chunk::{CodeMetadata, Dense, Embeddings, Location, Metadata};
use chunk_sync_model::{Chunk, Limits, State};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::cell::{Indexed, widened};
use super::rest::{KEY, Rest};
use super::row::{Further, RowImage};

/// pgvector's limit of non-zero values in a sparse vector.
const SPARSE_MAX: usize = 16_000;

/// Limits of the columns of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Room {
    /// The length of the dense vectors; `None` for any length.
    pub(super) dense: Option<usize>,
    /// Exclusive upper bound of the indices when the column is a `sparsevec`; `None` for JSON, which holds any.
    pub(super) sparse: Option<u32>,
    /// The greatest number in `start_line`, `end_line`, `start_char` and `end_char`.
    pub(super) numbers: [i64; 4],
    /// Whether `confidence` has double precision.
    pub(super) confidence: bool,
}

impl Room {
    /// Whether the column can hold the dense vector. No column holds an empty one.
    fn fits(&self, dense: &Dense) -> bool {
        let length = dense.vector.len();
        length > 0 && self.dense.is_none_or(|size| size == length)
    }

    fn fits_sparse(&self, sparse: &Indexed) -> bool {
        self.sparse.is_none_or(|size| {
            sparse.indices.len() <= SPARSE_MAX && sparse.indices.last().is_none_or(|last| *last < size)
        })
    }
}

/// The row of a state.
pub(super) fn encode(state: &State, room: &Room, limits: &Limits) -> RowImage {
    let chunk = &state.chunk;
    let mut rest = Rest { embedding_stale: state.embedding_stale.then_some(true), ..rest(chunk) };
    let mut row = RowImage {
        id: chunk.id,
        content: Some(chunk.content.clone()),
        summary: chunk.summary.clone(),
        chunk_type: Some(chunk.chunk_type.as_str().to_owned()),
        source_type: Some(chunk.source.kind.as_str().to_owned()),
        source_url: chunk.source.url.clone(),
        relative_path: chunk.source.path.clone(),
        file_extension: chunk.source.path.as_deref().and_then(extension),
        project_id: chunk.organization.project_id,
        dataset_id: chunk.organization.dataset_id,
        graph_node_id: chunk.graph.node_id.clone(),
        entity_refs: Some(json(&chunk.graph.entities)),
        created_at: Some(chunk.metadata.created_at),
        updated_at: Some(chunk.metadata.updated_at),
        indexed_at: chunk.metadata.indexed_at,
        cognified_at: chunk.metadata.cognified_at,
        ..RowImage::default()
    };
    dataset(chunk.organization.cognee_dataset.as_deref(), &mut row, &mut rest);
    location(&chunk.location, room, &mut row, &mut rest);
    if let Some(code) = &chunk.code_metadata {
        code_metadata(code, room, &mut row, &mut rest);
    }
    embeddings(&chunk.embeddings, room, limits, &mut row, &mut rest);
    row.metadata = Some(metadata(&chunk.metadata, &rest));
    row
}

/// The fields that never have a column.
fn rest(chunk: &Chunk) -> Rest {
    let relationships = &chunk.graph.relationships;
    let embeddings = &chunk.embeddings;
    Rest {
        system_origin: Some(chunk.system_origin),
        repo: chunk.source.repo.clone(),
        branch: chunk.source.branch.clone(),
        commit: chunk.source.commit.clone(),
        chunk_index: Some(chunk.location.chunk_index),
        relationships: (!relationships.is_empty()).then(|| relationships.clone()),
        scope: chunk.organization.scope,
        conflict_resolution: embeddings.conflict_resolution.clone(),
        primary_source: embeddings.primary_source.clone(),
        alternative_source: embeddings.alternative_source.clone(),
        ..Rest::default()
    }
}

fn dataset(name: Option<&str>, row: &mut RowImage, rest: &mut Rest) {
    // Only the canonical form: another spelling of the same UUID would not come back as it was.
    row.cognee_dataset_id = name.and_then(|name| Uuid::parse_str(name).ok().filter(|id| id.to_string() == name));
    if row.cognee_dataset_id.is_none() {
        rest.cognee_dataset = name.map(str::to_owned);
    }
}

fn location(location: &Location, room: &Room, row: &mut RowImage, rest: &mut Rest) {
    let said = [location.start_line, location.end_line, Some(location.start_char), Some(location.end_char)];
    let columns = [&mut row.start_line, &mut row.end_line, &mut row.start_char, &mut row.end_char];
    let spares = [&mut rest.start_line, &mut rest.end_line, &mut rest.start_char, &mut rest.end_char];
    for (((number, greatest), column), spare) in said.into_iter().zip(room.numbers).zip(columns).zip(spares) {
        *column = number.map(i64::from).filter(|number| *number <= greatest);
        *spare = number.filter(|_| column.is_none());
    }
}

fn code_metadata(code: &CodeMetadata, room: &Room, row: &mut RowImage, rest: &mut Rest) {
    row.language = Some(code.language.clone());
    row.is_code = Some(code.is_code);
    row.confidence = Some(code.confidence);
    #[allow(clippy::cast_possible_truncation, reason = "the column rounds in the same way")]
    let cut = !room.confidence && widened(code.confidence as f32) != code.confidence;
    rest.confidence = cut.then_some(code.confidence);
    rest.symbols = code.symbols.clone();
    rest.imports = code.imports.clone();
    rest.ast_features = code.ast_features.clone();
}

fn embeddings(embeddings: &Embeddings, room: &Room, limits: &Limits, row: &mut RowImage, rest: &mut Rest) {
    let of_model = |model: &str| embeddings.dense.iter().find(|dense| dense.model == model);
    let first = limits.models.iter().filter_map(|m| of_model(&m.model)).find(|dense| room.fits(dense));
    if let Some(first) = first {
        row.dense_vector = Some(first.vector.clone());
        row.embedding_model = Some(first.model.clone());
        rest.dense_timestamp = first.timestamp;
    }
    let others = embeddings.dense.iter().filter(|dense| first.is_none_or(|first| first.model != dense.model));
    row.further = others.map(|dense| Further { alternative: false, dense: dense.clone() }).collect();
    let models: Vec<String> = row.further.iter().map(|further| further.dense.model.clone()).collect();
    rest.further = (!models.is_empty()).then_some(models);
    if let Some(dense) = &embeddings.dense_alternative {
        row.further.push(Further { alternative: true, dense: dense.clone() });
        rest.alternative = Some(dense.model.clone());
    }
    if let Some(sparse) = &embeddings.sparse {
        let vector = Indexed { indices: sparse.indices.clone(), values: sparse.values.clone() };
        let (column, spare) = if room.fits_sparse(&vector) { (Some(vector), None) } else { (None, Some(vector)) };
        (row.sparse_vector, rest.sparse) = (column, spare);
        rest.sparse_model = Some(sparse.model.clone());
        rest.sparse_timestamp = sparse.timestamp;
    }
}

fn metadata(metadata: &Metadata, rest: &Rest) -> Value {
    let mut map: Map<String, Value> = metadata.extra.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(millis) = metadata.processing_time_ms {
        map.insert("processing_time_ms".to_owned(), millis.into());
    }
    map.insert(KEY.to_owned(), json(rest));
    Value::Object(map)
}

/// Serialises a value. It cannot fail: the types of a chunk have only string keys.
fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The extension of a path: `rs` for `src/main.rs`, none for `.gitignore`.
fn extension(path: &str) -> Option<String> {
    let name = path.rsplit(['/', '\\']).next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_owned())
}
