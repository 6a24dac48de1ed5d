//! The canonical form of a chunk, and the keys of `metadata` that the service computes.

use serde_json::Value;

use crate::Part;
use crate::chunk::{Chunk, Relationship, RelationshipType};

/// Brings a chunk into its canonical form, so that equal chunks have equal hashes: no computed fields; dense vectors
/// sorted by model, entities by id, relationships by type and ends; sparse vectors sorted by index and without zeros;
/// numbers in the form in which every store returns them.
pub(super) fn canonical(chunk: &mut Chunk) {
    let embeddings = &mut chunk.embeddings;
    embeddings.dense_alternative = None;
    embeddings.conflict_resolution = None;
    embeddings.primary_source = None;
    embeddings.alternative_source = None;
    embeddings.dense.sort_by(|a, b| a.model.cmp(&b.model));
    if let Some(sparse) = &mut embeddings.sparse
        && sparse.indices.len() == sparse.values.len()
    {
        let mut pairs: Vec<_> = sparse.indices.iter().copied().zip(sparse.values.iter().copied()).collect();
        pairs.retain(|(_, value)| *value != 0.0);
        pairs.sort_by_key(|(index, _)| *index);
        (sparse.indices, sparse.values) = pairs.into_iter().unzip();
    }
    chunk.graph.entities.sort_by(|a, b| a.id.cmp(&b.id));
    chunk.graph.relationships.sort_by(|a, b| key(a).cmp(&key(b)));
    for marker in MARKERS {
        chunk.metadata.extra.remove(*marker);
    }
    // Negative zero becomes zero.
    chunk.graph.entities.iter_mut().for_each(|entity| entity.confidence += 0.0);
    chunk.graph.relationships.iter_mut().for_each(|relationship| relationship.confidence += 0.0);
    chunk.code_metadata.iter_mut().for_each(|code| code.confidence += 0.0);
    chunk.metadata.processing_time_ms.iter_mut().for_each(|ms| *ms += 0.0);
    chunk.metadata.extra.values_mut().for_each(canonical_numbers);
    if let Some(features) = chunk.code_metadata.as_mut().and_then(|code| code.ast_features.as_mut()) {
        canonical_numbers(features);
    }
    for relationship in &mut chunk.graph.relationships {
        relationship.metadata.iter_mut().flat_map(|m| m.values_mut()).for_each(canonical_numbers);
    }
}

fn key(relationship: &Relationship) -> (RelationshipType, &str, &str) {
    (relationship.kind, &relationship.source_entity_id, &relationship.target_entity_id)
}

pub(crate) const PREVIOUS_VERSION: &str = "previous_version";
pub(crate) const CONFLICT_RESOLVED_AT: &str = "conflict_resolved_at";
pub(crate) const RESOLUTION_STRATEGY: &str = "resolution_strategy";
pub(crate) const CONFLICT_DETECTED: &str = "conflict_detected";
pub(crate) const CONFLICTING_VERSION: &str = "conflicting_version";
pub(crate) const CONFLICT_TIMESTAMP: &str = "conflict_timestamp";

/// The keys of `metadata` that a content conflict sets. The service computes them, so they are dropped on input.
const MARKERS: &[&str] = &[
    PREVIOUS_VERSION,
    CONFLICT_RESOLVED_AT,
    RESOLUTION_STRATEGY,
    CONFLICT_DETECTED,
    CONFLICTING_VERSION,
    CONFLICT_TIMESTAMP,
];

/// Whether the part is a key of `metadata` that the service computes. Writers cannot set such a key.
pub(crate) fn is_marker(part: &Part) -> bool {
    matches!(part, Part::Metadata(key) if MARKERS.contains(&key.as_str()))
}

/// Converts numbers to the form that PostgreSQL's `jsonb` returns. It stores decimals: it has no negative zero and
/// returns 1e16 as an integer.
fn canonical_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range just checked")]
            if float == 0.0 && float.is_sign_negative() {
                *value = Value::from(0.0);
            } else if float.fract() == 0.0 && (1e16..18_446_744_073_709_551_616.0).contains(&float) {
                *value = Value::from(float as u64);
            } else if float.fract() == 0.0 && (-9_223_372_036_854_775_808.0..=-1e16).contains(&float) {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(canonical_numbers),
        Value::Object(map) => map.values_mut().for_each(canonical_numbers),
        _ => {}
    }
}
