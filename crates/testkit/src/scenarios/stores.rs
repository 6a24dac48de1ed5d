//! Foreign writes to the stores: a row counts as a writer's change; what is written into the other stores is put back,
//! or merged, and is never lost without a record if it was detected.

use chunk_sync_model::hash::content_hash;
use serde_json::Value;

use super::script::{gte, scenario};
use super::{Scenario, Step};

const TEXT: &str = "what another program writes there";

fn known(name: &'static str) -> Scenario {
    let vector = ("embeddings.dense", gte(1, 1));
    scenario(name).creates("claude", 1, [vector, ("metadata.topic", "tea".into())]).says("cognee", 2, [])
}

/// The same with direct writes merged like those of any writer.
fn merged(name: &'static str) -> Scenario {
    known(name).under(&[("direct_writes", "merge")])
}

fn text() -> (&'static str, Value) {
    ("content", TEXT.into())
}

fn first() -> (&'static str, Value) {
    ("content", "what stands there at first".into())
}

fn at(second: i64) -> (&'static str, Value) {
    ("metadata.updated_at", second.into())
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        known("stores: a text written into the row is everywhere").step(Step::Row(Some(vec![text(), at(50)]))).shows([
            text(),
            ("metadata.topic", "tea".into()),
            ("dense.gte", 1.0.into()),
            ("stale", true.into()),
        ]),
        known("stores: a key written into the row changes that key")
            .step(Step::Row(Some(vec![("metadata.topic", "coffee".into()), at(50)])))
            .shows([first(), ("metadata.topic", "coffee".into()), ("stale", false.into())]),
        known("stores: a row that is deleted is gone everywhere").step(Step::Row(None)),
        known("stores: a row written by hand, and an older text that arrives late")
            .meets([("content", "target_kept")])
            .step(Step::Row(Some(vec![text(), at(50)])))
            .says("claude", 40, [("content", "an older text of claude".into())])
            .shows([text()]),
        known("stores: a row written by hand, and a newer text")
            .meets([("content", "source_kept")])
            .step(Step::Row(Some(vec![text(), at(50)])))
            .says("claude", 60, [("content", "a newer text of claude".into())])
            .shows([
                ("content", "a newer text of claude".into()),
                ("metadata.previous_version", content_hash(TEXT).into()),
            ]),
        known("stores: a text written into a point is put back")
            .meets([("content", "target_kept")])
            .step(Step::Point(Some(vec![text()])))
            .shows([first(), ("metadata.topic", "tea".into())]),
        known("stores: a vector written into a point is put back")
            .meets([("embeddings.dense.gte", "target_kept")])
            .step(Step::Point(Some(vec![("embeddings.dense", gte(9, 9))])))
            .shows([first(), ("dense.gte", 1.0.into()), ("alternative", Value::Null)]),
        known("stores: a point that is deleted comes back").step(Step::Point(None)).shows([first()]),
        known("stores: a property written into a node is put back")
            .meets([("chunk_type", "target_kept")])
            .step(Step::Node(Some(vec![("chunk_type", "code".into())])))
            .shows([first(), ("chunk_type", "text".into())]),
        known("stores: a node that is deleted comes back").step(Step::Node(None)).shows([first()]),
        known("stores: if all three differ, the row wins")
            .meets([("chunk_type", "target_kept"), ("content", "target_kept")])
            .step(Step::Stores {
                row: vec![text(), at(50)],
                point: vec![("content", "something else again in the point".into())],
                node: vec![("chunk_type", "code".into())],
            })
            .shows([text()]),
        known("stores: a point that was written to takes the next change")
            .step(Step::Point(Some(vec![("content", "something else in the point".into())])))
            .meets([("content", "target_kept")])
            .says("cognee", 60, [text()])
            .shows([text()]),
        known("stores: the next change overwrites an undetected text in a point")
            .under(&[("detect", "verify")])
            .step(Step::Unseen(vec![("content", "something else in the point".into())]))
            .says("cognee", 60, [("metadata.author", "cognee".into())])
            .shows([first(), ("metadata.author", "cognee".into())]),
        known("stores: with `detect` on every write, it is recorded first")
            .under(&[("detect", "always")])
            .meets([("content", "target_kept"), ("embeddings.dense.gte", "target_kept")])
            .step(Step::Unseen(vec![
                ("content", "something else in the point".into()),
                ("embeddings.dense", gte(9, 9)),
            ]))
            .says("cognee", 60, [("metadata.author", "cognee".into())])
            .shows([first(), ("dense.gte", 1.0.into()), ("metadata.author", "cognee".into())]),
        merged("stores: a text written into a point is everywhere").step(Step::Point(Some(vec![text()]))).shows([
            text(),
            ("metadata.topic", "tea".into()),
            ("stale", true.into()),
        ]),
        merged("stores: a text written into a point, and an older text that arrives late")
            .meets([("content", "target_kept")])
            .step(Step::Point(Some(vec![text(), at(50)])))
            .says("claude", 40, [("content", "an older text of claude".into())])
            .shows([text()]),
        merged("stores: a vector written into a point is in the row")
            .step(Step::Point(Some(vec![("embeddings.dense", gte(9, 9))])))
            .shows([first(), ("alternative", 1.0.into()), ("stale", false.into())]),
        merged("stores: a property written into a node is everywhere")
            .step(Step::Node(Some(vec![("chunk_type", "code".into())])))
            .shows([first(), ("chunk_type", "code".into())]),
        merged("stores: a text that is too short for a chunk is put back")
            .meets([("content", "target_kept")])
            .step(Step::Point(Some(vec![("content", "short".into())])))
            .shows([first()]),
        merged("stores: a point that is deleted comes back there, too").step(Step::Point(None)).shows([first()]),
        merged("stores: if all three differ, the newest value of each part wins")
            .meets([("content", "target_kept")])
            .step(Step::Stores {
                row: vec![text(), at(50)],
                point: vec![("content", "something else again in the point".into())],
                node: vec![("chunk_type", "code".into())],
            })
            .shows([text(), ("chunk_type", "code".into())]),
    ]
}
