//! A chunk's document ↔ a point.

use std::collections::HashMap;

use chunk_sync_engine::ports::{Fault, FaultClass, Looked};
use chunk_sync_model::document::{Document, VectorDocument};
use chunk_sync_model::{Limits, State, SyncVersion};
use qdrant_edge::{
    Payload, PointId, PointStructPersisted, Record, SparseVector, VectorInternal, VectorStructInternal,
    VectorStructPersisted,
};
use uuid::Uuid;

use crate::layout::VERSION;
use crate::shard::CONTEXT;

/// Refuses vectors that the collection has no place for: the document would leave them out.
pub(crate) fn check(state: &State, limits: &Limits) -> Result<(), Fault> {
    for dense in &state.chunk.embeddings.dense {
        let Some(model) = limits.model(&dense.model) else { continue };
        let refuse = |message| Err(Fault::new(FaultClass::Rejected, CONTEXT, message).at("chunk.embeddings.dense"));
        if dense.vector.len() != model.size {
            return refuse(format!(
                "the vector of `{}` has {} numbers; configured are {}",
                dense.model,
                dense.vector.len(),
                model.size
            ));
        }
        if dense.vector.iter().any(|number| !number.is_finite()) {
            return refuse(format!("the vector of `{}` has a number that is not finite", dense.model));
        }
    }
    Ok(())
}

pub(crate) fn point_id(id: Uuid) -> PointId {
    PointId::Uuid(id)
}

pub(crate) fn payload(document: &VectorDocument, version: SyncVersion) -> Payload {
    let mut payload = document.payload.clone();
    payload.insert(VERSION.to_owned(), version.get().into());
    Payload(payload)
}

pub(crate) fn point(id: Uuid, version: SyncVersion, document: &VectorDocument) -> PointStructPersisted {
    let dense = document.dense.iter().map(|(name, vector)| (name.clone(), VectorInternal::Dense(vector.clone())));
    let sparse = document.sparse.iter().map(|(indices, values)| {
        let vector = SparseVector { indices: indices.clone(), values: values.clone() };
        (chunk_sync_model::document::SPARSE_VECTOR.to_owned(), VectorInternal::Sparse(vector))
    });
    let vectors: HashMap<_, _> = dense.chain(sparse).collect();
    PointStructPersisted {
        id: point_id(id),
        vector: VectorStructPersisted::from(VectorStructInternal::Named(vectors)),
        payload: Some(payload(document, version)),
    }
}

/// The version that a point shows; zero where somebody else wrote it.
pub(crate) fn version(record: &Record) -> SyncVersion {
    let shown = record.payload.as_ref().and_then(|payload| payload.0.get(VERSION)?.as_u64());
    shown.map(SyncVersion::new).unwrap_or_default()
}

/// What a point holds. `None` for an id that is no UUID: no chunk has one.
pub(crate) fn looked(record: Record) -> Option<Looked> {
    let PointId::Uuid(id) = record.id else {
        return None;
    };
    let version = version(&record);
    let mut payload = record.payload.map(|payload| payload.0).unwrap_or_default();
    payload.remove(VERSION);
    let mut document = VectorDocument { dense: Default::default(), sparse: None, payload };
    if let Some(VectorStructInternal::Named(vectors)) = record.vector {
        for (name, vector) in vectors {
            match vector {
                VectorInternal::Dense(vector) => drop(document.dense.insert(name, vector)),
                VectorInternal::Sparse(vector) => document.sparse = Some((vector.indices, vector.values)),
                // The collection has none.
                VectorInternal::MultiDense(_) => {}
            }
        }
    }
    Some(Looked { id, version, document: Document::Vectors(document) })
}
