//! Computes the operations for a batch of writes from the versions that the server stores. Pure: no I/O.

use std::collections::HashMap;

use chunk_sync_engine::ports::{Applied, Write};
use chunk_sync_model::document::VectorDocument;
use chunk_sync_model::{Limits, SyncVersion};
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{DeletePoints, Operation, OverwritePayload, PointStructList};
use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, HasIdCondition, PointsSelector, PointsUpdateOperation, Range, Value,
};
use uuid::Uuid;

use super::encode::{StoredPoint, VERSION, check, payload, point, point_id};
use super::server::Version;

/// The operations, and the answer to each write, in order of the writes, valid once the operations have succeeded.
pub(super) struct Plan {
    pub(super) operations: Vec<PointsUpdateOperation>,
    pub(super) answers: Vec<Applied>,
}

/// A point to write.
struct NewPoint<'a> {
    write: &'a Write,
    document: VectorDocument,
    foreign: HashMap<String, Value>,
}

/// Plans one batch. `held` has what the server holds of each chunk that it stores. The keys that other programs added to
/// a payload stay in it.
///
/// The server flushes its log after each operation, and a payload is an operation of its own. So only a payload that would
/// be the only operation on points is written without vectors; together with others, whole points are written in one
/// operation, although that sends vectors that are there.
///
/// No operation only updates points (`update_mode`, from Qdrant 1.17 on), although a late write could then not bring back
/// a deleted chunk: where an older deletion arrives between the read and a newer write, that write would be lost and
/// answered as done. What a late write brings back is removed by its sender or by the watch list.
pub(super) fn plan(writes: &[Write], mut held: HashMap<Uuid, StoredPoint>, limits: &Limits, server: Version) -> Plan {
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    let (mut payloads, mut answers) = (Vec::new(), Vec::with_capacity(writes.len()));
    for write in writes {
        let (held, foreign) = match held.remove(&write.id) {
            Some(StoredPoint { version, foreign }) => (Some(version), foreign),
            None => (None, HashMap::new()),
        };
        if held.is_some_and(|held| held.keeps_out(write.version)) {
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
                let keeps = held.is_some_and(|held| write.keeps_vectors(held));
                let list = if keeps { &mut payloads } else { &mut upserts };
                list.push(NewPoint { write, document: VectorDocument::of(state, limits), foreign });
            }
        }
        answers.push(Applied::Written);
    }
    if payloads.len() + upserts.len() > 1 {
        upserts.append(&mut payloads);
    }
    let mut operations: Vec<Operation> = payloads.pop().map(overwrite).into_iter().collect();
    operations.extend(upsert(upserts, server));
    operations.extend(delete(&deletes));
    let operations = operations.into_iter().map(|operation| PointsUpdateOperation { operation: Some(operation) });
    Plan { operations: operations.collect(), answers }
}

/// Writes the payload only. The filter requires a stored version from which on the vectors have not changed.
fn overwrite(new: NewPoint<'_>) -> Operation {
    let NewPoint { write, document, foreign } = new;
    let since = write.vectors_since.max(SyncVersion::new(1));
    let range = Range { gte: Some(number(since)), lt: Some(number(write.version)), ..Range::default() };
    let filter = Filter { must: vec![has_id(&[write.id]), version_in(range)], ..Filter::default() };
    Operation::OverwritePayload(OverwritePayload {
        payload: payload(document, write.version, foreign),
        points_selector: Some(select(filter)),
        ..OverwritePayload::default()
    })
}

fn upsert(upserts: Vec<NewPoint<'_>>, server: Version) -> Option<Operation> {
    if upserts.is_empty() {
        return None;
    }
    let unless_newer = Filter { must_not: upserts.iter().map(|new| newer(new.write)).collect(), ..Filter::default() };
    let to_point = |NewPoint { write, document, foreign }: NewPoint<'_>| {
        point(write.id, write.version, document, foreign, server.wire())
    };
    Some(Operation::Upsert(PointStructList {
        points: upserts.into_iter().map(to_point).collect(),
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

/// Matches the point of this chunk if its version [keeps out](SyncVersion::keeps_out) the write.
fn newer(write: &Write) -> Condition {
    let highest = (write.version <= SyncVersion::HIGHEST_SHOWN).then(|| number(SyncVersion::HIGHEST_SHOWN));
    let range = Range { gte: Some(number(write.version)), lte: highest, ..Range::default() };
    let filter = Filter { must: vec![has_id(&[write.id]), version_in(range)], ..Filter::default() };
    condition(ConditionOneOf::Filter(filter))
}

fn has_id(ids: &[Uuid]) -> Condition {
    condition(ConditionOneOf::HasId(HasIdCondition { has_id: ids.iter().copied().map(point_id).collect() }))
}

fn version_in(range: Range) -> Condition {
    let field = FieldCondition { key: VERSION.to_owned(), range: Some(range), ..FieldCondition::default() };
    condition(ConditionOneOf::Field(field))
}

fn condition(one: ConditionOneOf) -> Condition {
    Condition { condition_one_of: Some(one) }
}

fn select(filter: Filter) -> PointsSelector {
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) }
}

/// The version as filters compare it. Exact, because a version is below 2^53.
#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
fn number(version: SyncVersion) -> f64 {
    version.get() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::Arc;

    use chunk_sync_model::State;
    use serde_json::json;

    use super::*;

    /// A write of new metadata to a chunk whose vectors the server has.
    fn metadata(id: u128) -> Write {
        let chunk = json!({
            "id": Uuid::from_u128(id), "system_origin": "claude", "content": "something",
            "chunk_type": "text", "source": {"type": "api"},
            "location": {"start_char": 0, "end_char": 9, "chunk_index": 0}, "organization": {},
            "metadata": {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"},
        });
        let state = State { chunk: serde_json::from_value(chunk).unwrap(), embedding_stale: false };
        Write {
            id: Uuid::from_u128(id),
            version: SyncVersion::new(2),
            state: Some(Arc::new(state)),
            vectors_since: SyncVersion::new(1),
        }
    }

    #[test]
    fn two_payloads_are_one_operation_and_one_flush() {
        let operations = |stored: u128, new: u128| {
            let writes: Vec<Write> = (1..=stored + new).map(metadata).collect();
            let foreign = HashMap::from([("theirs".to_owned(), Value::from(7))]);
            let one = StoredPoint { version: SyncVersion::new(1), foreign };
            let held = (1..=stored).map(|id| (Uuid::from_u128(id), one.clone())).collect();
            let version = Version::of("1.18.3").unwrap();
            plan(&writes, held, &Limits::default(), version).operations
        };
        let one = operations(1, 0);
        assert_eq!(one.len(), 1);
        assert!(matches!(&one[0].operation, Some(Operation::OverwritePayload(_))), "the vectors stay where they are");
        for (stored, new) in [(2, 0), (1, 1), (200, 0)] {
            let together = operations(stored, new);
            let Some(Operation::Upsert(list)) = &together[0].operation else { panic!("an upsert") };
            assert_eq!((together.len(), list.points.len() as u128), (1, stored + new));
            let kept = list.points.iter().filter(|point| point.payload.contains_key("theirs")).count();
            assert_eq!(kept as u128, stored, "what other programs added stays");
            assert!(list.update_filter.is_some(), "guarded by the version");
        }
    }
}
