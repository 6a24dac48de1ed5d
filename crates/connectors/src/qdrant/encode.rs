//! Conversion between a chunk's document and a point.

use std::collections::HashMap;

use chunk_sync_engine::ports::{Fault, FaultClass, StoredDocument};
use chunk_sync_model::document::{Document, PAYLOAD_KEYS, SPARSE_VECTOR, VectorDocument, round_numbers};
use chunk_sync_model::{Limits, State, SyncVersion};
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vectors_output::VectorsOptions as CurrentState;
use qdrant_client::qdrant::{
    DenseVector, NamedVectors, PayloadExcludeSelector, PointId, PointStruct, RetrievedPoint, SparseIndices,
    SparseVector, Value, Vector, Vectors, WithPayloadSelector, vector, vector_output, vectors, with_payload_selector,
};
use serde_json::Map;
use uuid::Uuid;

use super::fault::WRITE;

/// The payload key of the sync version.
pub(super) const VERSION: &str = "sync_version";

/// The encoding of a vector in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// In the field for its kind, which servers from 1.16 on prefer.
    Typed,
    /// In the deprecated fields, which every server reads.
    Flat,
}

/// Checks the dense vectors of configured models. Without the check, the document would silently omit an unfit vector.
///
/// # Errors
/// [`Rejected`](FaultClass::Rejected) at `chunk.embeddings.dense`, if a vector has another size than its model, or
/// contains a number that is not finite.
pub(super) fn check(state: &State, limits: &Limits) -> Result<(), Fault> {
    for dense in &state.chunk.embeddings.dense {
        let Some(model) = limits.model(&dense.model) else { continue };
        let refuse = |message| Err(Fault::new(FaultClass::Rejected, WRITE, message).at("chunk.embeddings.dense"));
        if dense.vector.len() != model.size {
            let (name, configured, length) = (&dense.model, model.size, dense.vector.len());
            return refuse(format!(
                "the vector of `{name}` has {length} numbers, but the model is configured with {configured}; correct \
                 the vector or [[embedding]]"
            ));
        }
        if dense.vector.iter().any(|number| !number.is_finite()) {
            return refuse(format!("the vector of `{}` contains a number that is not finite; correct it", dense.model));
        }
    }
    Ok(())
}

pub(super) fn point_id(id: Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

/// The chunk id of a point; `None` for a numeric id, which no chunk has.
pub(super) fn chunk_id(id: Option<&PointId>) -> Option<Uuid> {
    match id?.point_id_options.as_ref()? {
        PointIdOptions::Uuid(text) => Uuid::parse_str(text).ok(),
        PointIdOptions::Num(_) => None,
    }
}

/// The payload of a chunk beside the keys of other programs.
pub(super) fn payload(
    document: VectorDocument,
    version: SyncVersion,
    mut foreign: HashMap<String, Value>,
) -> HashMap<String, Value> {
    foreign.extend(document.payload.into_iter().map(|(key, value)| (key, Value::from(value))));
    foreign.insert(VERSION.to_owned(), version.signed().into());
    foreign
}

pub(super) fn point(
    id: Uuid,
    version: SyncVersion,
    mut document: VectorDocument,
    foreign: HashMap<String, Value>,
    wire: Wire,
) -> PointStruct {
    let dense = std::mem::take(&mut document.dense).into_iter().map(|(name, numbers)| (name, dense(numbers, wire)));
    let sparse =
        document.sparse.take().map(|(indices, values)| (SPARSE_VECTOR.to_owned(), sparse(indices, values, wire)));
    let named = NamedVectors { vectors: dense.chain(sparse).collect() };
    PointStruct {
        id: Some(point_id(id)),
        vectors: Some(Vectors { vectors_options: Some(vectors::VectorsOptions::Vectors(named)) }),
        payload: payload(document, version, foreign),
    }
}

#[allow(deprecated, reason = "older servers read only these")]
fn dense(data: Vec<f32>, wire: Wire) -> Vector {
    match wire {
        Wire::Typed => typed(vector::Vector::Dense(DenseVector { data })),
        Wire::Flat => Vector { data, ..Vector::default() },
    }
}

#[allow(deprecated, reason = "older servers read only these")]
fn sparse(indices: Vec<u32>, values: Vec<f32>, wire: Wire) -> Vector {
    match wire {
        Wire::Typed => typed(vector::Vector::Sparse(SparseVector { values, indices })),
        Wire::Flat => Vector { data: values, indices: Some(SparseIndices { data: indices }), ..Vector::default() },
    }
}

fn typed(vector: vector::Vector) -> Vector {
    Vector { vector: Some(vector), ..Vector::default() }
}

/// The version in a point's payload; zero if it is missing, negative or not a number: another client wrote the point. A
/// double counts as a version, because filters compare it as one too.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, as intended")]
pub(super) fn version(payload: &HashMap<String, Value>) -> SyncVersion {
    match payload.get(VERSION).and_then(|value| value.kind.as_ref()) {
        Some(Kind::IntegerValue(shown)) => SyncVersion::new(u64::try_from(*shown).unwrap_or(0)),
        Some(Kind::DoubleValue(shown)) => SyncVersion::new(*shown as u64),
        _ => SyncVersion::default(),
    }
}

/// What the server holds of a chunk before a write.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredPoint {
    pub(super) version: SyncVersion,
    /// The keys of the payload that are not the chunk's: other programs that share the collection wrote them.
    pub(super) foreign: HashMap<String, Value>,
}

impl StoredPoint {
    /// From a payload read with [`foreign_payload`].
    pub(super) fn of(mut payload: HashMap<String, Value>) -> Self {
        let version = version(&payload);
        payload.remove(VERSION);
        Self { version, foreign: payload }
    }
}

/// Selects the version and what other programs added to the payload.
pub(super) fn foreign_payload() -> WithPayloadSelector {
    let exclude = PayloadExcludeSelector { fields: PAYLOAD_KEYS.map(str::to_owned).into() };
    with_payload_selector::SelectorOptions::Exclude(exclude).into()
}

/// The stored document of a point; `None` if its id is not a UUID and so not a chunk's.
pub(super) fn document(point: RetrievedPoint) -> Option<StoredDocument> {
    let id = chunk_id(point.id.as_ref())?;
    let version = version(&point.payload);
    // Other keys are those of programs that share the collection.
    let fields = point.payload.into_iter().filter(|(key, _)| PAYLOAD_KEYS.contains(&key.as_str()));
    let mut payload: Map<_, _> = fields.map(|(key, value)| (key, value.into_json())).collect();
    for value in payload.values_mut() {
        round_numbers(value);
        value.sort_all_objects();
    }
    let mut document = VectorDocument { dense: Default::default(), sparse: None, payload };
    if let Some(CurrentState::Vectors(named)) = point.vectors.and_then(|vectors| vectors.vectors_options) {
        for (name, vector) in named.vectors {
            match vector.into_vector() {
                vector_output::Vector::Dense(vector) => drop(document.dense.insert(name, vector.data)),
                vector_output::Vector::Sparse(vector) => document.sparse = Some((vector.indices, vector.values)),
                // A collection that `schema` accepts has no multivectors.
                vector_output::Vector::MultiDense(_) => {}
            }
        }
    }
    Some(StoredDocument { id, version, document: Document::Vectors(document) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn a_payload_survives_the_round_trip() {
        let mut sent = json!({
            "integers": [0, -1, i64::MIN, i64::MAX], "floats": [1.0, -0.0, 0.1, 5e-324, 1.5e300, 1e16],
            "nested": { "a": { "b": [null, true, {}, [], "", { "c": 1 }] }, "": 0 },
        });
        let mut held = Value::from(sent.clone()).into_json();
        held.sort_all_objects();
        sent.sort_all_objects();
        // Compared as text, because 1.0 and 1 differ there.
        assert_eq!(held.to_string(), sent.to_string());
    }

    #[test]
    fn the_version_of_a_point_is_zero_unless_its_payload_holds_a_number() {
        let shown = |value: Json| version(&HashMap::from([(VERSION.to_owned(), Value::from(value))])).get();
        assert_eq!(shown(json!(1_790_000_000_000_001_u64)), 1_790_000_000_000_001);
        assert_eq!(shown(json!(12.0)), 12);
        assert_eq!((shown(json!(-3)), shown(json!("9")), shown(json!(null))), (0, 0, 0));
        assert_eq!(shown(json!(1e300)), SyncVersion::MAX.get());
        assert_eq!(version(&HashMap::new()), SyncVersion::default());
    }
}
