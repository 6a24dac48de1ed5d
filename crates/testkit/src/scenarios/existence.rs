//! Creates, deletes and updates in every order.

use serde_json::Value;

use super::Scenario;
use super::script::scenario;

fn known(name: &'static str) -> Scenario {
    scenario(name).creates("claude", 1, []).says("cognee", 2, [])
}

fn text() -> (&'static str, Value) {
    ("content", "a text written meanwhile".into())
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        known("delete: the chunk is gone").deletes("claude", 10),
        known("delete: a later update by a writer that knew the chunk does not bring it back")
            .meets([("content", "target_kept")])
            .deletes("claude", 10)
            .says("cognee", 11, [text()]),
        known("delete: an update that comes first does not save it").says("cognee", 11, [text()]).deletes("claude", 10),
        known("delete: an older delete that arrives late still deletes")
            .says("cognee", 20, [text()])
            .deletes("claude", 10),
        known("delete: a delete older than a create changes nothing")
            .creates("cognee", 20, [text()])
            .deletes("claude", 10)
            .shows([text()]),
        known("delete: a newer create brings it back")
            .meets([("existence", "source_kept")])
            .deletes("claude", 10)
            .creates("cognee", 20, [text()])
            .shows([text()]),
        known("delete: an older create does not bring it back")
            .meets([("content", "target_kept"), ("existence", "target_kept")])
            .deletes("claude", 10)
            .creates("cognee", 9, [text()]),
        known("delete: the writer that deleted it brings it back with an update")
            .deletes("claude", 10)
            .says("claude", 11, [text()])
            .shows([text()]),
        scenario("delete: a writer that never knew it creates it again, with its own values only")
            .creates("claude", 1, [("metadata.topic", "tea".into())])
            .deletes("claude", 10)
            .says("cognee", 11, [text()])
            .shows([text(), ("metadata.topic", Value::Null)]),
        known("delete: by both it stays deleted").deletes("claude", 10).deletes("cognee", 11).step(super::Step::Again),
        known("delete: repeated after the chunk came back, it changes nothing")
            .deletes("claude", 10)
            .creates("claude", 11, [text()])
            .step(super::Step::Again)
            .shows([text()]),
        scenario("delete: a chunk that never existed").deletes("cognee", 10),
        scenario("delete: a chunk that never existed, before an older create").deletes("cognee", 10).creates(
            "claude",
            9,
            [],
        ),
    ]
}
