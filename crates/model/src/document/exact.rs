//! Whether two documents are equal to the last bit, which takes a fraction of the time of hashing them. Equal documents have
//! equal fingerprints; documents that are not equal here may have equal fingerprints too.
//!
//! Floats compare by their bits: `==` takes 0.0 for -0.0, of which canonical JSON does not write the same.

use serde_json::{Map, Value};

use super::{GraphDocument, Mention, Relation, VectorDocument};

pub(super) fn same_vectors(one: &VectorDocument, other: &VectorDocument) -> bool {
    let dense = |a: &VectorDocument, b: &VectorDocument| {
        a.dense.len() == b.dense.len()
            && a.dense.iter().zip(&b.dense).all(|((name, a), (other, b))| name == other && same_floats(a, b))
    };
    let sparse = match (&one.sparse, &other.sparse) {
        (Some((places, values)), Some((other_places, other_values))) => {
            places == other_places && same_floats(values, other_values)
        }
        (None, None) => true,
        _ => false,
    };
    sparse && dense(one, other) && same_maps(&one.payload, &other.payload)
}

/// Compares what the fingerprint contains: the project is not part of it.
pub(super) fn same_graphs(one: &GraphDocument, other: &GraphDocument) -> bool {
    let entities = one.entities.len() == other.entities.len()
        && one.entities.iter().zip(&other.entities).all(|((id, a), (other, b))| id == other && same_mentions(a, b));
    let relations = one.relations.len() == other.relations.len()
        && one.relations.iter().zip(&other.relations).all(|(a, b)| same_relations(a, b));
    texts(one) == texts(other) && one.dataset == other.dataset && entities && relations
}

fn texts(document: &GraphDocument) -> [&str; 6] {
    let GraphDocument { content_hash, chunk_type, source_type, system_origin, created_at, updated_at, .. } = document;
    [content_hash, chunk_type, source_type, system_origin, created_at, updated_at]
}

fn same_mentions(one: &Mention, other: &Mention) -> bool {
    one.name == other.name
        && one.kind == other.kind
        && one.confidence.to_bits() == other.confidence.to_bits()
        && one.positions == other.positions
}

fn same_relations(one: &Relation, other: &Relation) -> bool {
    one.source == other.source
        && one.target == other.target
        && one.kind == other.kind
        && one.confidence.to_bits() == other.confidence.to_bits()
}

fn same_floats(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn same_maps(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| same_values(value, other)))
}

fn same_values(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => same_maps(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_values(a, b))
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            one.as_f64().map(f64::to_bits) == other.as_f64().map(f64::to_bits)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::Document;
    use super::*;

    fn point(numbers: &[f32], payload: &Value) -> Document {
        let payload = payload.as_object().cloned().unwrap_or_default();
        let dense = BTreeMap::from([("dense".to_owned(), numbers.to_vec())]);
        Document::Vectors(VectorDocument { dense, sparse: Some((vec![1, 7], vec![0.5, 0.25])), payload })
    }

    fn node(confidence: f64, project: Option<&str>) -> Document {
        let mention = Mention { name: "e".into(), kind: "concept".into(), confidence, positions: vec![3] };
        let relation = Relation { source: "e".into(), target: "f".into(), kind: "uses".into(), confidence };
        Document::Graph(GraphDocument {
            content_hash: "00".into(),
            chunk_type: "text".into(),
            source_type: "api".into(),
            system_origin: "claude".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            updated_at: "2026-01-01T00:00:00Z".into(),
            dataset: None,
            project: project.map(str::to_owned),
            entities: BTreeMap::from([("e".to_owned(), mention)]),
            relations: vec![relation],
        })
    }

    #[test]
    fn the_order_of_keys_is_no_difference() {
        let one =
            point(&[0.5], &json!({ "content": "text", "metadata": { "a": 1, "b": [1.5, { "c": null, "d": true }] } }));
        let other =
            point(&[0.5], &json!({ "metadata": { "b": [1.5, { "d": true, "c": null }], "a": 1 }, "content": "text" }));
        assert!(one.differing(&other).is_empty());
        assert_eq!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn each_single_bit_is_a_difference() {
        let payload = json!({ "content": "text", "metadata": { "number": 0.0 } });
        let held = point(&[0.0, 0.5], &payload);
        for bit in 0..32 {
            let flipped = f32::from_bits(0.5_f32.to_bits() ^ (1 << bit));
            assert_eq!(held.differing(&point(&[0.0, flipped], &payload)), ["dense"], "bit {bit}");
        }
        assert_eq!(held.differing(&point(&[-0.0, 0.5], &payload)), ["dense"]);
        let negative = json!({ "content": "text", "metadata": { "number": -0.0 } });
        assert_eq!(held.differing(&point(&[0.0, 0.5], &negative)), ["metadata"]);
        assert_eq!(held.differing(&point(&[0.0, 0.5], &json!({ "content": "texu" }))), ["content", "metadata"]);
        assert_eq!(held.differing(&point(&[0.0], &payload)), ["dense"]);
        assert_eq!(node(0.0, None).differing(&node(-0.0, None)), ["entities", "relations"]);
        assert!(node(0.5, None).differing(&node(0.5, Some("p"))).is_empty(), "chunks share a data set and its project");
    }
}
