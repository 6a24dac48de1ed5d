//! `GET /v1/chunks/{id}`: what each store holds of a chunk, beside what the row leads to, with the differences marked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::Uri;
use chunk_sync_engine::ports::{Fault, Projection, Row, StoredDocument};
use chunk_sync_model::document::{Document, GraphDocument, VectorDocument};
use chunk_sync_model::{State as ChunkState, SyncVersion, Target};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Context;
use super::abridge::{abridge, abridged};
use super::json::Json;
use super::query::{Query, id};
use super::refusal::Refusal;

/// Time limit for the answer of one store.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a chunk.
#[derive(Serialize)]
pub(super) struct Found {
    id: Uuid,
    /// Whether the record states that the chunk exists; null without a record.
    lives: Option<bool>,
    /// The version of the record; null without one.
    sync_version: Option<SyncVersion>,
    /// The chunk of the row, with vectors shortened; null without a row.
    chunk: Value,
    /// Whether every store holds what the row leads to.
    consistent: bool,
    stores: BTreeMap<Target, StoreView>,
}

/// What a store holds.
#[derive(Default, Serialize)]
struct StoreView {
    /// Whether the store holds the chunk; null if it did not answer.
    present: Option<bool>,
    sync_version: Option<SyncVersion>,
    /// What is wrong: `missing`, `orphaned`, `different` or `stale`; null if nothing is.
    problem: Option<&'static str>,
    /// The names of the fields that differ.
    differs: Vec<String>,
    /// The fields that the row leads to.
    expected: Map<String, Value>,
    /// The fields that the store holds.
    fields: Map<String, Value>,
    error: Option<String>,
}

pub(super) async fn show(
    State(context): State<Arc<Context>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Json<Found>, Refusal> {
    Query::of(&uri)?.end()?;
    let (id, ports) = (id::<Uuid>(&text)?, &context.app.ports);
    // The stores are read before the row, so that none can be ahead of the row that it is compared with.
    let mut documents = Vec::new();
    for store in &ports.stores {
        documents.push((store, answered(store.fetch_documents(&[id])).await.map(|mut found| found.pop().flatten())));
    }
    let row = answered(ports.records.rows_of(&[id])).await.map_err(Refusal::Store)?.pop().flatten();
    let held = |(store, document): (&Arc<dyn Projection>, Result<Option<StoredDocument>, Fault>)| {
        let held = match document {
            Ok(document) => StoreView::of(&context, &**store, row.as_ref(), document.as_ref()),
            Err(fault) => StoreView { error: Some(fault.to_string()), ..StoreView::default() },
        };
        (store.target(), held)
    };
    let mut stores: BTreeMap<Target, StoreView> = documents.into_iter().map(held).collect();
    stores.insert(Target::Postgres, StoreView::of_row(row.as_ref()));
    if stores.values().all(|held| held.present == Some(false)) && row.as_ref().is_none_or(|row| row.lives.is_none()) {
        return Err(Refusal::NoChunk(id));
    }
    Ok(Json(Found {
        id,
        lives: row.as_ref().and_then(|row| row.lives),
        sync_version: row.as_ref().filter(|row| row.lives.is_some()).map(|row| row.version),
        chunk: abridged(&row.as_ref().and_then(|row| row.state.as_ref()).map(|state| &state.chunk)),
        consistent: stores.values().all(|held| held.problem.is_none() && held.error.is_none()),
        stores,
    }))
}

async fn answered<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", PATIENCE.as_secs());
        Err(Fault::new(chunk_sync_engine::ports::FaultClass::Timeout, "chunk", message))
    })
}

impl StoreView {
    fn of_row(row: Option<&Row>) -> Self {
        let state = row.and_then(|row| row.state.as_deref());
        let lost = state.is_none() && row.and_then(|row| row.lives) == Some(true);
        Self {
            present: Some(state.is_some()),
            sync_version: row.filter(|row| row.lives.is_some()).map(|row| row.version),
            problem: lost.then_some("missing"),
            fields: state.map(|state| fields(&Document::Row(Arc::new(state.clone())))).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn of(context: &Context, store: &dyn Projection, row: Option<&Row>, found: Option<&StoredDocument>) -> Self {
        let state = row.and_then(|row| row.state.as_deref());
        let differs = match (state, found) {
            (Some(state), Some(found)) => found.document.differing(&store.expect(state)),
            _ => Vec::new(),
        };
        let behind = row.zip(found).is_some_and(|(row, found)| found.version < row.version);
        let problem = match (state.is_some(), found.is_some(), differs.is_empty()) {
            (true, false, _) => Some("missing"),
            (false, true, _) => Some("orphaned"),
            (true, true, false) if behind => Some("stale"),
            (true, true, false) => Some("different"),
            _ => None,
        };
        let expected = state.and_then(|state| expected(context, store.target(), state));
        Self {
            present: Some(found.is_some()),
            sync_version: found.map(|found| found.version),
            problem,
            differs,
            expected: expected.map(|document| fields(&document)).unwrap_or_default(),
            fields: found.map(|found| fields(&found.document)).unwrap_or_default(),
            error: None,
        }
    }
}

/// The document of a state in a store.
fn expected(context: &Context, target: Target, state: &ChunkState) -> Option<Document> {
    match target {
        Target::Postgres => None,
        Target::Qdrant => Some(Document::Vectors(VectorDocument::of(state, context.app.publisher.limits()))),
        Target::Neo4j => Some(Document::Graph(GraphDocument::of(state))),
    }
}

/// The fields of a document by the names that verification uses.
fn fields(document: &Document) -> Map<String, Value> {
    let mut fields = match document {
        Document::Row(state) => object(serde_json::to_value(&state.chunk)),
        Document::Graph(graph) => object(serde_json::to_value(graph)),
        Document::Vectors(point) => {
            let mut fields = point.payload.clone();
            fields.extend(point.dense.iter().map(|(name, vector)| (name.clone(), Value::from(vector.clone()))));
            if let Some((indices, values)) = &point.sparse {
                let sparse = serde_json::json!({"indices": indices, "values": values});
                fields.insert(chunk_sync_model::document::SPARSE_VECTOR.to_owned(), sparse);
            }
            fields
        }
    };
    fields.values_mut().for_each(abridge);
    fields
}

fn object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
