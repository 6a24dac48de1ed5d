//! Reads the direct changes out of a point in Qdrant.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::chunk::{Chunk, Dense, Sparse, State};
use crate::document::{ALTERNATIVE_VECTOR, VectorDocument};
use crate::vector::Vector;
use crate::{Limits, Time};

/// Overlays `observed` with the values of `held` that differ from the document of `state`.
pub(super) fn overlay(observed: &mut Chunk, held: &VectorDocument, state: &State, limits: &Limits) {
    let ours = VectorDocument::of(state, limits);
    let changed = |name: &str| {
        let held = held.payload.get(name).filter(|value| !value.is_null())?;
        let same = ours.payload.get(name).is_some_and(|ours| is_same(held, ours));
        (!same).then_some(held)
    };
    let text = |name: &str| changed(name).and_then(Value::as_str).filter(|text| !text.contains('\0'));
    set(&mut observed.content, text("content").map(str::to_owned));
    set(&mut observed.summary, text("summary").map(|text| Some(text.to_owned())));
    set(&mut observed.chunk_type, changed("chunk_type").and_then(read));
    let id = |name| text(name).and_then(|id| Uuid::from_str(id).ok()).map(Some);
    set(&mut observed.organization.project_id, id("project_id"));
    set(&mut observed.organization.dataset_id, id("dataset_id"));
    set(&mut observed.organization.cognee_dataset, text("cognee_dataset").map(|name| Some(name.to_owned())));
    set(&mut observed.source.kind, changed("source_type").and_then(read));
    set(&mut observed.source.path, text("path").map(|path| Some(path.to_owned())));
    if let Some(code) = &mut observed.code_metadata {
        set(&mut code.language, text("language").map(str::to_owned));
        set(&mut code.is_code, changed("is_code").and_then(Value::as_bool));
    }
    if let (Some(Value::Object(held)), Some(Value::Object(ours))) = (changed("metadata"), ours.payload.get("metadata"))
    {
        metadata(observed, held, ours);
    }
    dense(observed, held, &ours, limits);
    if let Some((indices, values)) = held.sparse.as_ref().filter(|_| held.sparse != ours.sparse) {
        let before = state.chunk.embeddings.sparse.as_ref();
        let model = text("sparse_model").map(str::to_owned).or_else(|| before.map(|sparse| sparse.model.clone()));
        let (indices, values) = (indices.clone(), values.clone());
        let timestamp = before.and_then(|sparse| sparse.timestamp);
        let sparse = model.map(|model| Sparse { model, indices, values, timestamp });
        observed.embeddings.sparse = sparse.or(observed.embeddings.sparse.take());
    }
}

/// Compares `metadata` by key. The times of creation, change and processing are not parts and are skipped.
fn metadata(observed: &mut Chunk, held: &Map<String, Value>, ours: &Map<String, Value>) {
    observed.metadata.extra.retain(|key, _| held.contains_key(key));
    for (key, value) in held {
        let new = ours.get(key).is_none_or(|ours| !is_same(value, ours));
        let part = !["created_at", "updated_at", "indexed_at", "cognified_at", "processing_time_ms", "_chunk"]
            .contains(&key.as_str());
        if new && part {
            observed.metadata.extra.insert(key.clone(), value.clone());
        }
    }
}

fn dense(observed: &mut Chunk, held: &VectorDocument, ours: &VectorDocument, limits: &Limits) {
    for (name, vector) in held.dense.iter().filter(|(name, vector)| ours.dense.get(*name) != Some(*vector)) {
        let model = limits.models.iter().find(|model| model.vector == *name && *name != ALTERNATIVE_VECTOR);
        let Some(model) = model else { continue };
        let vector = Vector::from(vector.clone());
        let dense = &mut observed.embeddings.dense;
        match dense.iter_mut().find(|dense| dense.model == model.model) {
            Some(dense) => dense.vector = vector,
            None => dense.push(Dense { model: model.model.clone(), vector, timestamp: None::<Time> }),
        }
    }
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

/// Whether two values are equal in a store that holds large integers as doubles.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}
