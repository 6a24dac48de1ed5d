//! What a batch of writes asks of the server, given the versions that it holds: pure.

use std::collections::HashMap;

use chunk_sync_engine::ports::{Applied, Write};
use chunk_sync_model::document::VectorDocument;
use chunk_sync_model::{Limits, SyncVersion};
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{DeletePoints, Operation, OverwritePayload, PointStructList};
use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, HasIdCondition, PointStruct, PointsSelector, PointsUpdateOperation, Range,
};
use uuid::Uuid;

use super::encode::{VERSION, check, payload, point, point_id};
use super::server::Version;

/// The operations, and what each write is answered once they are done.
pub(super) struct Plan {
    pub(super) operations: Vec<PointsUpdateOperation>,
    pub(super) answers: Vec<Applied>,
}

/// Plans one batch; `held` are the versions of those chunks that are there.
pub(super) fn plan(writes: &[Write], held: &HashMap<Uuid, SyncVersion>, limits: &Limits, server: Version) -> Plan {
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    let (mut operations, mut answers) = (Vec::new(), Vec::with_capacity(writes.len()));
    for write in writes {
        let held = held.get(&write.id).copied();
        if held.is_some_and(|held| held >= write.version) {
            answers.push(Applied::Skipped);
            continue;
        }
        match &write.state {
            None => deletes.push(write),
            Some(state) => {
                if let Err(fault) = check(state, limits) {
                    answers.push(Applied::Failed(fault));
                    continue;
                }
                let document = VectorDocument::of(state, limits);
                // A point of version zero is somebody else's, vectors and all.
                match held.filter(|held| *held >= write.vectors_since && *held > SyncVersion::default()) {
                    Some(_) => operations.push(overwrite(write, document)),
                    None => upserts.push((write, point(write.id, write.version, document, server.wire()))),
                }
            }
        }
        answers.push(Applied::Written);
    }
    operations.extend(upsert(upserts, server));
    operations.extend(delete(&deletes));
    let operations = operations.into_iter().map(|operation| PointsUpdateOperation { operation: Some(operation) });
    Plan { operations: operations.collect(), answers }
}

/// Only the payload: the vectors are there already, as long as the point is one that they did not change since.
fn overwrite(write: &Write, document: VectorDocument) -> Operation {
    let since = write.vectors_since.max(SyncVersion::new(1));
    let range = Range { gte: Some(number(since)), lt: Some(number(write.version)), ..Range::default() };
    let filter = Filter { must: vec![has_id(&[write.id]), shows(range)], ..Filter::default() };
    Operation::OverwritePayload(OverwritePayload {
        payload: payload(document, write.version),
        points_selector: Some(select(filter)),
        ..OverwritePayload::default()
    })
}

fn upsert(upserts: Vec<(&Write, PointStruct)>, server: Version) -> Option<Operation> {
    if upserts.is_empty() {
        return None;
    }
    let unless_newer =
        Filter { must_not: upserts.iter().map(|(write, _)| newer(write)).collect(), ..Filter::default() };
    Some(Operation::Upsert(PointStructList {
        points: upserts.into_iter().map(|(_, point)| point).collect(),
        update_filter: server.is_conditional().then_some(unless_newer),
        ..PointStructList::default()
    }))
}

fn delete(deletes: &[&Write]) -> Option<Operation> {
    if deletes.is_empty() {
        return None;
    }
    let ids: Vec<Uuid> = deletes.iter().map(|write| write.id).collect();
    let must_not = deletes.iter().map(|write| newer(write)).collect();
    let filter = Filter { must: vec![has_id(&ids)], must_not, ..Filter::default() };
    Some(Operation::DeletePoints(DeletePoints { points: Some(select(filter)), ..DeletePoints::default() }))
}

/// That a point is this chunk, and of the version of the write or a newer one.
fn newer(write: &Write) -> Condition {
    let range = Range { gte: Some(number(write.version)), ..Range::default() };
    let filter = Filter { must: vec![has_id(&[write.id]), shows(range)], ..Filter::default() };
    condition(ConditionOneOf::Filter(filter))
}

fn has_id(ids: &[Uuid]) -> Condition {
    condition(ConditionOneOf::HasId(HasIdCondition { has_id: ids.iter().copied().map(point_id).collect() }))
}

fn shows(range: Range) -> Condition {
    let field = FieldCondition { key: VERSION.to_owned(), range: Some(range), ..FieldCondition::default() };
    condition(ConditionOneOf::Field(field))
}

fn condition(one: ConditionOneOf) -> Condition {
    Condition { condition_one_of: Some(one) }
}

fn select(filter: Filter) -> PointsSelector {
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) }
}

/// As filters compare; exact, because a version is below 2^53.
#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
fn number(version: SyncVersion) -> f64 {
    version.get() as f64
}
