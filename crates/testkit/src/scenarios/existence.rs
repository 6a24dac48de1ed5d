//! Coming and going: deletes and updates in every order.

use serde_json::Value;

use super::Scenario;
use super::script::scenario;

fn known(name: &'static str) -> Scenario {
    scenario(name).creates("claude", 1, []).says("cognee", 2, [])
}

fn text() -> (&'static str, Value) {
    ("content", "a text that is written meanwhile".into())
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        known("delete: it is gone").deletes("claude", 10),
        known("delete: what the other says later, knowing the chunk, does not bring it back")
            .meets([("content", "target_kept")])
            .deletes("claude", 10)
            .says("cognee", 11, [text()]),
        known("delete: an update that comes first does not save it").says("cognee", 11, [text()]).deletes("claude", 10),
        known("delete: an older one that comes late deletes all the same")
            .says("cognee", 20, [text()])
            .deletes("claude", 10),
        known("delete: older than a create, it changes nothing")
            .creates("cognee", 20, [text()])
            .deletes("claude", 10)
            .shows([text()]),
        known("delete: a newer create brings it back")
            .meets([("existence", "source_kept")])
            .deletes("claude", 10)
            .creates("cognee", 20, [text()])
            .shows([text()]),
        known("delete: an older create does not")
            .meets([("content", "target_kept"), ("existence", "target_kept")])
            .deletes("claude", 10)
            .creates("cognee", 9, [text()]),
        known("delete: whoever deleted it and says it anew brings it back")
            .deletes("claude", 10)
            .says("claude", 11, [text()])
            .shows([text()]),
        scenario("delete: whoever never knew it makes it anew, with its own words only")
            .creates("claude", 1, [("metadata.topic", "tea".into())])
            .deletes("claude", 10)
            .says("cognee", 11, [text()])
            .shows([text(), ("metadata.topic", Value::Null)]),
        known("delete: by both it stays gone").deletes("claude", 10).deletes("cognee", 11).step(super::Step::Again),
        known("delete: comes once more after the chunk came back, and changes nothing")
            .deletes("claude", 10)
            .creates("claude", 11, [text()])
            .step(super::Step::Again)
            .shows([text()]),
        scenario("delete: of what was never there").deletes("cognee", 10),
        scenario("delete: of what was never there, before an older create").deletes("cognee", 10).creates(
            "claude",
            9,
            [],
        ),
    ]
}
