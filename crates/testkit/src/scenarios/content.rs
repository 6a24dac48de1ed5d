//! The content: which writer's text shows, and what is recorded about the other.

use chunk_sync_model::hash::content_hash;
use serde_json::{Value, json};

use super::Scenario;
use super::script::scenario;

const A: &str = "what claude makes of it";
const B: &str = "what cognee makes of it";

fn text(text: &str) -> (&'static str, Value) {
    ("content", text.into())
}

fn hash(text: &str) -> Value {
    content_hash(text).into()
}

/// Both writers know the chunk.
fn known(name: &'static str) -> Scenario {
    scenario(name).creates("claude", 1, []).says("cognee", 2, [])
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        scenario("content: the first text shows").creates("claude", 1, [text(A)]).shows([
            text(A),
            ("metadata.conflict_detected", Value::Null),
            ("system_origin", "claude".into()),
        ]),
        scenario("content: a writer that changes its own text causes no conflict")
            .creates("claude", 1, [])
            .says("claude", 2, [text(A)])
            .says("claude", 3, [text(B)])
            .shows([text(B), ("metadata.previous_version", Value::Null)]),
        known("content: the newer of two texts shows")
            .meets([("content", "source_kept")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .shows([
                text(B),
                ("metadata.previous_version", hash(A)),
                ("metadata.resolution_strategy", "last_write_wins".into()),
                ("metadata.conflict_detected", true.into()),
                ("system_origin", "hybrid".into()),
            ]),
        known("content: an older text that arrives late does not show")
            .meets([("content", "target_kept")])
            .says("claude", 11, [text(A)])
            .says("cognee", 10, [text(B)])
            .shows([text(A)]),
        known("content: the version decides between two texts of the same time")
            .meets([("content", "target_kept")])
            .says("cognee", 10, [text(B)])
            .says("claude", 10, [text(A)])
            .shows([text(B)]),
        known("content: the same text by both writers is no conflict")
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(A)])
            .shows([text(A), ("metadata.previous_version", Value::Null), ("metadata.conflict_detected", Value::Null)]),
        known("content: a time four minutes ahead is accepted")
            .meets([("content", "target_kept")])
            .says("cognee", 86_400 + 240, [text(B)])
            .says("claude", 20, [text(A)])
            .shows([text(B)]),
        known("content: a time ten minutes ahead is refused")
            .says("claude", 10, [text(A)])
            .says("cognee", 86_400 + 600, [text(B)])
            .shows([text(A)]),
        known("content: the source wins under `source_wins`")
            .meets([("content", "source_kept")])
            .under(&[("content", "source_wins")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .shows([text(B)]),
        known("content: the held text stays under `target_wins`")
            .meets([("content", "target_kept")])
            .under(&[("content", "target_wins")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .shows([text(A)]),
        known("content: the preferred writer shows, however old")
            .meets([("content", "target_kept")])
            .under(&[("content", "prefer:claude")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .shows([text(A)]),
        scenario("content: texts that change at different lines are merged")
            .meets([("content", "merged")])
            .under(&[("content", "merge_text")])
            .creates("claude", 1, [text("first line\nsecond line\nthird line\n")])
            .reads("cognee")
            .says("cognee", 2, [])
            .says("claude", 10, [text("the first line\nsecond line\nthird line\n")])
            .says("cognee", 11, [text("first line\nsecond line\nthe third line\n")])
            .shows([text("the first line\nsecond line\nthe third line\n")]),
        scenario("content: texts that collide in a line end with the newer")
            .meets([("content", "source_kept")])
            .under(&[("content", "merge_text")])
            .creates("claude", 1, [text("first line\nsecond line\nthird line\n")])
            .reads("cognee")
            .says("cognee", 2, [])
            .says("claude", 10, [text("first line\nclaude's line\nthird line\n")])
            .says("cognee", 11, [text("first line\ncognee's line\nthird line\n")])
            .shows([text("first line\ncognee's line\nthird line\n")]),
        known("content: a manual conflict shows the held text")
            .meets([("content", "open")])
            .under(&[("content", "manual")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .shows([text(A), ("metadata.conflict_detected", true.into()), ("metadata.conflicting_version", hash(B))]),
        known("content: a manual conflict ends with an operator's decision")
            .meets([("content", "open")])
            .under(&[("content", "manual")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .step(super::Step::Decides { part: "content", value: B.into(), at: 20 })
            .shows([text(B)]),
        known("content: a change after an operator's decision takes effect")
            .meets([("content", "source_kept")])
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [text(B)])
            .step(super::Step::Decides { part: "content", value: A.into(), at: 20 })
            .says("claude", 30, [text("the text of claude after the decision")])
            .shows([text("the text of claude after the decision"), ("metadata.conflict_detected", Value::Null)]),
        known("content: the summary is a separate part")
            .says("claude", 10, [text(A)])
            .says("cognee", 11, [("summary", "in short".into())])
            .shows([text(A), ("summary", "in short".into()), ("metadata.previous_version", Value::Null)]),
        known("content: a writer that publishes what it read changes one field")
            .says("claude", 10, [text(A), ("metadata.topic", "tea".into())])
            .reads("cognee")
            .says("cognee", 11, [("metadata.mood", "calm".into())])
            .says("claude", 12, [text("the next text of claude")])
            .shows([
                text("the next text of claude"),
                ("metadata.topic", "tea".into()),
                ("metadata.mood", "calm".into()),
                ("metadata.previous_version", Value::Null),
            ]),
        known("content: an old text without `set` is an echo")
            .says("claude", 10, [text(A)])
            .says("claude", 11, [text(B)])
            .says("cognee", 12, [text(A)])
            .shows([text(B)]),
        known("content: an old text named in `set` shows again")
            .meets([("content", "source_kept")])
            .says("claude", 10, [text(A)])
            .says("claude", 11, [text(B)])
            .event("cognee", 12, "update", [text(A)], &["content"], &[])
            .shows([text(A)]),
        known("content: a repeated event changes nothing")
            .meets([("content", "source_kept")])
            .says("claude", 10, [text(A), ("metadata.topic", json!(["tea"]))])
            .says("cognee", 11, [text(B), ("metadata.mood", "calm".into())])
            .step(super::Step::Again)
            .step(super::Step::Again)
            .shows([text(B), ("metadata.topic", json!(["tea"])), ("metadata.mood", "calm".into())]),
        known("content: a part that an event does not carry stays")
            .says("claude", 10, [text(A)])
            .event("cognee", 11, "update", [text("not carried")], &[], &["content"])
            .shows([text(A)]),
    ]
}
