//! Conversion of update requests into operations of the engine.

use qdrant_client::qdrant::create_vector_name_request::VectorConfig;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{Operation, PointStructList};
use qdrant_client::qdrant::{CreateFieldIndexCollection, PointsSelector, PointsUpdateOperation, Value};
use qdrant_edge::{
    ConditionalInsertOperation, CreateIndex, CreateVectorName, DenseVectorConfig, EdgeShard, FieldIndexOperations,
    OperationError, PayloadFieldSchema, PayloadOps, PointInsertOperations, PointOperations, SetPayloadOp,
    UpdateOperation, VectorNameConfig, VectorNameOperations,
};
use std::collections::HashMap;
use tonic::Status;

use crate::collections::{DISTANCES, KINDS};
use crate::convert::{filter, path, payload, point, point_ids};

/// Applies updates in order. With `wait`, each is flushed to disk before the next, as a real Qdrant does, so that many
/// small operations have their real cost. Stops at the first failure; the earlier updates stay applied.
pub(crate) fn apply(engine: &EdgeShard, operations: Vec<UpdateOperation>, wait: bool) -> Result<(), OperationError> {
    for operation in operations {
        engine.update(operation)?;
        if wait {
            engine.flush();
        }
    }
    Ok(())
}

pub(crate) fn of_batch(operation: PointsUpdateOperation, modern: bool) -> Result<UpdateOperation, Status> {
    match operation.operation {
        Some(Operation::Upsert(list)) => upsert(list, modern),
        Some(Operation::DeletePoints(delete)) => self::delete(delete.points),
        Some(Operation::SetPayload(set)) => {
            set_payload(set.payload, set.points_selector, set.key.as_deref(), PayloadOps::SetPayload)
        }
        Some(Operation::OverwritePayload(set)) => {
            set_payload(set.payload, set.points_selector, set.key.as_deref(), PayloadOps::OverwritePayload)
        }
        _ => Err(Status::unimplemented(
            "the test server supports only upserts, deletion of points, and setting or overwriting payload",
        )),
    }
}

pub(crate) fn upsert(list: PointStructList, modern: bool) -> Result<UpdateOperation, Status> {
    if list.update_mode.is_some() || list.shard_key_selector.is_some() {
        return Err(Status::unimplemented("the test server supports neither update modes nor shard keys"));
    }
    let points = list.points.into_iter().map(|told| point(told, modern)).collect::<Result<_, _>>()?;
    let points_op = PointInsertOperations::PointsList(points);
    let operation = match list.update_filter.filter(|_| modern) {
        Some(condition) => PointOperations::UpsertPointsConditional(ConditionalInsertOperation {
            points_op,
            condition: filter(condition)?,
            update_mode: None,
        }),
        None => PointOperations::UpsertPoints(points_op),
    };
    Ok(UpdateOperation::PointOperation(operation))
}

pub(crate) fn create_vector(vector_name: String, config: Option<VectorConfig>) -> Result<UpdateOperation, Status> {
    let Some(VectorConfig::DenseConfig(dense)) = config else {
        return Err(Status::unimplemented("the test server can add only dense vectors"));
    };
    let distance = DISTANCES.iter().find(|(told, _)| *told == dense.distance());
    let (_, distance) = distance.ok_or_else(|| Status::invalid_argument("a vector has no distance"))?;
    let size = usize::try_from(dense.size).unwrap_or(usize::MAX);
    let dense = DenseVectorConfig { size, distance: *distance, multivector_config: None, datatype: None };
    let create = CreateVectorName { vector_name, config: VectorNameConfig::dense(dense) };
    Ok(UpdateOperation::VectorNameOperation(VectorNameOperations::CreateVectorName(create)))
}

pub(crate) fn delete(points: Option<PointsSelector>) -> Result<UpdateOperation, Status> {
    let operation = match selected(points)? {
        PointsSelectorOneOf::Points(list) => PointOperations::DeletePoints { ids: point_ids(list.ids)? },
        PointsSelectorOneOf::Filter(which) => PointOperations::DeletePointsByFilter(filter(which)?),
    };
    Ok(UpdateOperation::PointOperation(operation))
}

pub(crate) fn set_payload(
    fields: HashMap<String, Value>,
    points: Option<PointsSelector>,
    key: Option<&str>,
    how: fn(SetPayloadOp) -> PayloadOps,
) -> Result<UpdateOperation, Status> {
    let (points, filter) = match selected(points)? {
        PointsSelectorOneOf::Points(list) => (Some(point_ids(list.ids)?), None),
        PointsSelectorOneOf::Filter(which) => (None, Some(filter(which)?)),
    };
    let key = key.map(path).transpose()?;
    Ok(UpdateOperation::PayloadOperation(how(SetPayloadOp { payload: payload(fields), points, filter, key })))
}

pub(crate) fn create_index(request: &CreateFieldIndexCollection) -> Result<UpdateOperation, Status> {
    let wanted = request.field_type();
    let kind = KINDS.iter().find(|(told, _, _)| *told == wanted && request.field_type.is_some());
    let (_, _, kind) = kind.ok_or_else(|| Status::unimplemented("the test server needs the type of an index"))?;
    let index = CreateIndex {
        field_name: path(&request.field_name)?,
        field_schema: Some(PayloadFieldSchema::FieldType(*kind)),
    };
    Ok(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))
}

fn selected(points: Option<PointsSelector>) -> Result<PointsSelectorOneOf, Status> {
    let selector = points.and_then(|points| points.points_selector_one_of);
    selector.ok_or_else(|| Status::invalid_argument("Validation error in body: the request selects no points"))
}
