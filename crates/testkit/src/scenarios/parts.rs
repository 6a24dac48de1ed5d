//! Metadata key by key, the graph element by element, and the parts that are one value.

use serde_json::{Value, json};

use super::Scenario;
use super::script::{calls, entity, scenario};

fn known(name: &'static str) -> Scenario {
    scenario(name).creates("claude", 1, []).says("cognee", 2, [])
}

fn topic(topic: &str) -> (&'static str, Value) {
    ("metadata.topic", topic.into())
}

fn entities<const N: usize>(entities: [Value; N]) -> (&'static str, Value) {
    ("graph.entities", Vec::from(entities).into())
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        known("metadata: different keys do not conflict")
            .says("claude", 10, [topic("tea")])
            .says("cognee", 11, [("metadata.mood", "calm".into())])
            .shows([topic("tea"), ("metadata.mood", "calm".into())]),
        known("metadata: the newer value of a key shows")
            .meets([("metadata.topic", "target_kept")])
            .says("claude", 11, [topic("tea")])
            .says("cognee", 10, [topic("coffee")])
            .shows([topic("tea")]),
        known("metadata: leaving out a key that the writer never set removes nothing")
            .says("claude", 10, [topic("tea")])
            .says("cognee", 11, [("metadata.mood", "calm".into())])
            .says("cognee", 12, [("metadata.mood", "gay".into())])
            .shows([topic("tea"), ("metadata.mood", "gay".into())]),
        known("metadata: leaving out a key that the writer had set removes it")
            .says("claude", 10, [topic("tea")])
            .says("cognee", 11, [("metadata.mood", "calm".into())])
            .says("claude", 12, [("metadata.topic", Value::Null)])
            .shows([("metadata.topic", Value::Null), ("metadata.mood", "calm".into())]),
        known("metadata: one writer removes a key, the other changes it later")
            .meets([("metadata.topic", "source_kept")])
            .says("claude", 10, [topic("tea")])
            .reads("cognee")
            .says("cognee", 11, [])
            .says("claude", 12, [("metadata.topic", Value::Null)])
            .says("cognee", 13, [topic("coffee")])
            .shows([topic("coffee")]),
        known("metadata: a key can have a strategy of its own")
            .meets([("metadata.owner", "target_kept"), ("metadata.topic", "source_kept")])
            .under(&[("metadata.owner", "prefer:claude")])
            .says("claude", 10, [("metadata.owner", "ann".into()), topic("tea")])
            .says("cognee", 11, [("metadata.owner", "bob".into()), topic("coffee")])
            .shows([("metadata.owner", "ann".into()), topic("coffee")]),
        known("metadata: values of any JSON form are compared by value")
            .says("claude", 10, [("metadata.form", json!({"a": 1, "b": [1, 2, {"c": null}]}))])
            .says("cognee", 11, [("metadata.form", json!({"b": [1, 2, {"c": null}], "a": 1}))])
            .shows([("metadata.form", json!({"a": 1, "b": [1, 2, {"c": null}]}))]),
        known("graph: the entities of both writers show")
            .says("claude", 10, [entities([entity("s1-a", "a")])])
            .says("cognee", 11, [entities([entity("s1-b", "b")])])
            .shows([("entity.s1-a", "a".into()), ("entity.s1-b", "b".into())]),
        known("graph: the newer version of an entity shows")
            .meets([("graph.entities.s2-a", "target_kept")])
            .says("claude", 11, [entities([entity("s2-a", "by claude")])])
            .says("cognee", 10, [entities([entity("s2-a", "by cognee")])])
            .shows([("entity.s2-a", "by claude".into())]),
        known("graph: a relationship shows while both its ends do")
            .says(
                "claude",
                10,
                [
                    entities([entity("s3-a", "a"), entity("s3-b", "b")]),
                    ("graph.relationships", json!([calls("s3-a", "s3-b")])),
                ],
            )
            .says("claude", 11, [entities([entity("s3-a", "a")]), ("graph.relationships", Value::Null)])
            .shows([("entity.s3-a", "a".into()), ("entity.s3-b", Value::Null), ("calls", json!([]))]),
        known("graph: an entity that one writer drops and the other published later stays")
            .meets([
                ("graph.entities.s4-a", "source_kept"),
                ("graph.entities.s4-a", "source_kept"),
                ("graph.entities.s4-a", "source_kept"),
            ])
            .says("claude", 10, [entities([entity("s4-a", "a")])])
            .says("cognee", 11, [entities([entity("s4-a", "the same, reworded")])])
            .says("claude", 12, [entities([])])
            .says("cognee", 13, [entities([entity("s4-a", "the same, reworded twice")])])
            .shows([("entity.s4-a", "the same, reworded twice".into())]),
        known("graph: relationships of both writers link the same entities")
            .says(
                "claude",
                10,
                [
                    entities([entity("s5-a", "a"), entity("s5-b", "b")]),
                    ("graph.relationships", json!([calls("s5-a", "s5-b")])),
                ],
            )
            .reads("cognee")
            .says("cognee", 11, [("graph.relationships", json!([calls("s5-a", "s5-b"), calls("s5-b", "s5-a")]))])
            .shows([("calls", json!([["s5-a", "s5-b"], ["s5-b", "s5-a"]]))]),
        known("parts: source, location and code are one value each, and the newer shows")
            .meets([("source", "source_kept")])
            .says(
                "claude",
                10,
                [
                    ("source", json!({ "type": "file", "path": "a.rs" })),
                    ("code_metadata", json!({ "language": "rust", "is_code": true, "confidence": 1.0 })),
                ],
            )
            .says("cognee", 11, [("source", json!({ "type": "web", "url": "http://b" }))])
            .says("cognee", 12, [("location", json!({ "start_char": 5, "end_char": 9, "chunk_index": 3 }))])
            .shows([
                ("source.type", "web".into()),
                ("source.path", Value::Null),
                ("location.chunk_index", 3.into()),
                ("code_metadata.language", "rust".into()),
            ]),
        known("parts: the newer project assignment shows")
            .meets([("organization", "target_kept")])
            .says("claude", 10, [("organization", json!({ "scope": "project" }))])
            .says("cognee", 9, [("organization", json!({ "scope": "user" }))])
            .shows([("organization.scope", "project".into())]),
    ]
}
