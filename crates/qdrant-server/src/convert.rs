//! Conversion between messages of the protocol and types of the engine.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    Condition, DenseVector, FieldCondition, Filter, NamedVectorsOutput, PointId, PointStruct, RetrievedPoint,
    SparseIndices, SparseVector, Value, Vector, VectorOutput, VectorsOutput, WithPayloadSelector, WithVectorsSelector,
    vector, vector_output, vectors_output, with_payload_selector, with_vectors_selector,
};
use qdrant_edge::{
    JsonPath, Payload, PayloadSelector, PayloadSelectorExclude, PointStructPersisted, Record, VectorInternal,
    VectorStructInternal, VectorStructPersisted, WithPayloadInterface, WithVector,
};
use serde_json::{Map, Value as Json, json};
use tonic::Status;
use uuid::Uuid;

fn invalid(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("Validation error in body: {what}"))
}

pub(crate) fn point_id(id: Option<PointId>) -> Result<qdrant_edge::PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(qdrant_edge::PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => {
            Uuid::parse_str(&text).map(qdrant_edge::PointId::Uuid).map_err(|error| invalid(format!("{text}: {error}")))
        }
        None => Err(invalid("a point has no id")),
    }
}

pub(crate) fn point_ids(ids: Vec<PointId>) -> Result<Vec<qdrant_edge::PointId>, Status> {
    ids.into_iter().map(|id| point_id(Some(id))).collect()
}

pub(crate) fn told_id(id: qdrant_edge::PointId) -> PointId {
    let options = match id {
        qdrant_edge::PointId::NumId(number) => PointIdOptions::Num(number),
        qdrant_edge::PointId::Uuid(id) => PointIdOptions::Uuid(id.to_string()),
    };
    PointId { point_id_options: Some(options) }
}

pub(crate) fn path(name: &str) -> Result<JsonPath, Status> {
    name.parse().map_err(|()| invalid(format!("invalid path `{name}`")))
}

pub(crate) fn payload(fields: HashMap<String, Value>) -> Payload {
    Payload(fields.into_iter().map(|(key, value)| (key, value.into_json())).collect())
}

pub(crate) fn point(point: PointStruct, modern: bool) -> Result<PointStructPersisted, Status> {
    let vectors = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(VectorsOptions::Vectors(named)) => named.vectors,
        Some(VectorsOptions::Vector(_)) => {
            return Err(Status::unimplemented("the test server supports only named vectors"));
        }
        None => HashMap::new(),
    };
    let vectors = vectors.into_iter().map(|(name, vector)| Ok((name, self::vector(vector, modern)?)));
    let vectors: HashMap<_, _> = vectors.collect::<Result<_, Status>>()?;
    Ok(PointStructPersisted {
        id: point_id(point.id)?,
        vector: VectorStructPersisted::from(VectorStructInternal::Named(vectors)),
        payload: Some(payload(point.payload)),
    })
}

#[allow(deprecated, reason = "clients of older servers write only these fields")]
fn vector(vector: Vector, modern: bool) -> Result<VectorInternal, Status> {
    match vector.vector.filter(|_| modern) {
        Some(vector::Vector::Dense(dense)) => Ok(VectorInternal::Dense(dense.data)),
        Some(vector::Vector::Sparse(vector)) => sparse(vector.indices, vector.values),
        Some(_) => Err(Status::unimplemented("the test server supports only dense and sparse vectors")),
        None => match vector.indices {
            Some(indices) => sparse(indices.data, vector.data),
            None => Ok(VectorInternal::Dense(vector.data)),
        },
    }
}

fn sparse(indices: Vec<u32>, values: Vec<f32>) -> Result<VectorInternal, Status> {
    qdrant_edge::SparseVector::new(indices, values).map(VectorInternal::Sparse).map_err(invalid)
}

pub(crate) fn told_point(record: Record, modern: bool) -> RetrievedPoint {
    let payload = record.payload.map(|payload| payload.0).unwrap_or_default();
    let vectors = match record.vector {
        Some(VectorStructInternal::Named(named)) => {
            let vectors = named.into_iter().filter_map(|(name, vector)| Some((name, told_vector(vector, modern)?)));
            Some(NamedVectorsOutput { vectors: vectors.collect() })
        }
        _ => None,
    };
    RetrievedPoint {
        id: Some(told_id(record.id)),
        payload: payload.into_iter().map(|(key, value)| (key, Value::from(value))).collect(),
        vectors: vectors
            .map(|named| VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)) }),
        ..RetrievedPoint::default()
    }
}

#[allow(deprecated, reason = "older servers return only these fields")]
fn told_vector(vector: VectorInternal, modern: bool) -> Option<VectorOutput> {
    let told = match vector {
        VectorInternal::Dense(data) if modern => typed(vector_output::Vector::Dense(DenseVector { data })),
        VectorInternal::Dense(data) => VectorOutput { data, ..VectorOutput::default() },
        VectorInternal::Sparse(sparse) if modern => {
            let sparse = SparseVector { values: sparse.values, indices: sparse.indices };
            typed(vector_output::Vector::Sparse(sparse))
        }
        VectorInternal::Sparse(sparse) => {
            let indices = Some(SparseIndices { data: sparse.indices });
            VectorOutput { data: sparse.values, indices, ..VectorOutput::default() }
        }
        // The server accepts no multivectors, so it holds none.
        VectorInternal::MultiDense(_) => return None,
    };
    Some(told)
}

fn typed(vector: vector_output::Vector) -> VectorOutput {
    VectorOutput { vector: Some(vector), ..VectorOutput::default() }
}

pub(crate) fn with_payload(selector: Option<WithPayloadSelector>) -> Result<WithPayloadInterface, Status> {
    use with_payload_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        Some(SelectorOptions::Enable(all)) => Ok(WithPayloadInterface::Bool(all)),
        Some(SelectorOptions::Include(include)) => {
            Ok(WithPayloadInterface::Fields(include.fields.iter().map(|name| path(name)).collect::<Result<_, _>>()?))
        }
        Some(SelectorOptions::Exclude(exclude)) => {
            let exclude = exclude.fields.iter().map(|name| path(name)).collect::<Result<_, _>>()?;
            Ok(WithPayloadInterface::Selector(PayloadSelector::Exclude(PayloadSelectorExclude { exclude })))
        }
        None => Ok(WithPayloadInterface::Bool(false)),
    }
}

pub(crate) fn with_vectors(selector: Option<WithVectorsSelector>) -> WithVector {
    use with_vectors_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        Some(SelectorOptions::Enable(all)) => WithVector::Bool(all),
        Some(SelectorOptions::Include(include)) => WithVector::Selector(include.names),
        None => WithVector::Bool(false),
    }
}

/// Converts a filter by way of its HTTP form in JSON, which the engine parses.
pub(crate) fn filter(filter: Filter) -> Result<qdrant_edge::Filter, Status> {
    serde_json::from_value(filter_json(filter)?).map_err(invalid)
}

fn filter_json(filter: Filter) -> Result<Json, Status> {
    if filter.min_should.is_some() {
        return Err(Status::unimplemented("the test server does not support min_should"));
    }
    let mut json = Map::new();
    for (name, conditions) in [("should", filter.should), ("must", filter.must), ("must_not", filter.must_not)] {
        if !conditions.is_empty() {
            let conditions = conditions.into_iter().map(condition_json).collect::<Result<_, _>>()?;
            json.insert(name.to_owned(), Json::Array(conditions));
        }
    }
    Ok(Json::Object(json))
}

fn condition_json(condition: Condition) -> Result<Json, Status> {
    match condition.condition_one_of {
        Some(ConditionOneOf::HasId(has)) => Ok(json!({ "has_id": point_ids(has.has_id)? })),
        Some(ConditionOneOf::Filter(nested)) => filter_json(nested),
        Some(ConditionOneOf::IsEmpty(empty)) => Ok(json!({ "is_empty": { "key": empty.key } })),
        Some(ConditionOneOf::Field(FieldCondition { key, range: Some(range), .. })) => {
            Ok(json!({ "key": key, "range": { "lt": range.lt, "gt": range.gt, "gte": range.gte, "lte": range.lte } }))
        }
        _ => Err(Status::unimplemented(
            "the test server supports only the conditions has_id, range and is_empty, and nested filters",
        )),
    }
}
