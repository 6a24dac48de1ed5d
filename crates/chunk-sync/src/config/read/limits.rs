//! The section `limits`, and the embedding models.

use std::collections::HashSet;

use chunk_sync_model::{EmbeddingModel, Limits};
use toml::{Table, Value};

use crate::config::layers::near_miss;
use crate::config::reader::Reader;

/// Names of vectors in Qdrant that do not belong to one model.
const TAKEN: [&str; 2] = ["dense_alternative", "sparse_splade"];

pub(super) fn limits(reader: &mut Reader<'_>) -> Limits {
    let max_ahead = reader.duration("limits.max_ahead", "0s", "1d");
    let content_min_chars = reader.count("limits.content_min_chars", 0..=10_000) as usize;
    let most = reader.size("limits.content_max_bytes", "64", "8MiB");
    let content_max_bytes = usize::try_from(most).unwrap_or(usize::MAX);
    if content_min_chars > content_max_bytes {
        reader.wrong("limits.content_min_chars", "must not exceed `limits.content_max_bytes`");
    }
    let mut bytes = |key, least, most| usize::try_from(reader.size(key, least, most)).unwrap_or(usize::MAX);
    let summary_max_bytes = bytes("limits.summary_max_bytes", "64", "8MiB");
    let text_max_bytes = bytes("limits.text_max_bytes", "64", "8000");
    let chunk_max_bytes = bytes("limits.chunk_max_bytes", "4KiB", "16MiB");
    let event_max_bytes = bytes("limits.event_max_bytes", "64KiB", "32MiB");
    let row_max_bytes = bytes("limits.row_max_bytes", "64KiB", "64MiB");
    if chunk_max_bytes > event_max_bytes {
        reader.wrong("limits.chunk_max_bytes", "must not exceed `limits.event_max_bytes`");
    }
    Limits {
        content_min_chars,
        content_max_bytes,
        summary_max_bytes,
        text_max_bytes,
        entities_max: reader.count("limits.entities_max", 1..=100_000) as usize,
        relationships_max: reader.count("limits.relationships_max", 1..=100_000) as usize,
        chunk_max_bytes,
        event_max_bytes,
        row_max_bytes,
        max_ahead_micros: i64::try_from(max_ahead.as_micros()).unwrap_or(i64::MAX),
        models: models(reader),
    }
}

fn models(reader: &mut Reader<'_>) -> Vec<EmbeddingModel> {
    let (mut names, mut vectors) = (HashSet::new(), HashSet::new());
    let mut models = Vec::new();
    for (i, value) in reader.list("embedding").iter().enumerate() {
        let checked = model(value).and_then(|model| {
            if !names.insert(model.model.clone()) {
                Err(format!("two models have the name `{}`", model.model))
            } else if !vectors.insert(model.vector.clone()) {
                Err(format!("two models have the vector `{}`", model.vector))
            } else {
                Ok(model)
            }
        });
        match checked {
            Ok(model) => models.push(model),
            Err(message) => reader.wrong("embedding", format!("number {}: {message}", i + 1)),
        }
    }
    if models.is_empty() && reader.findings.is_empty() {
        reader.wrong("embedding", "must contain at least one model");
    }
    models
}

fn model(value: &Value) -> Result<EmbeddingModel, String> {
    const KEYS: [&str; 3] = ["model", "vector", "size"];
    let table: &Table = value.as_table().ok_or("must have model, vector and size")?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let meant = near_miss(key, KEYS.into_iter()).map(|other| format!("; did you mean `{other}`?"));
        return Err(format!("unknown key `{key}`{}", meant.unwrap_or_default()));
    }
    let name = |key: &str| match table.get(key).and_then(Value::as_str) {
        Some(name) if (1..=255).contains(&name.len()) => Ok(name.to_owned()),
        _ => Err(format!("`{key}` must be a text of 1 to 255 bytes")),
    };
    let (model, vector) = (name("model")?, name("vector")?);
    if TAKEN.contains(&vector.as_str()) {
        return Err(format!("the vector name `{vector}` is reserved; choose another"));
    }
    let size = table.get("size").and_then(Value::as_integer).and_then(|size| usize::try_from(size).ok());
    match size {
        Some(size @ 1..=16_000) => Ok(EmbeddingModel { model, vector, size }),
        _ => Err("`size` must be a whole number between 1 and 16000".to_owned()),
    }
}
