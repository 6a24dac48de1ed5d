//! Vectors: of two writers, of several models, made for another text.

use serde_json::{Value, json};

use super::Scenario;
use super::script::{dense, gte, scenario, sparse};

fn vector(number: u8, at: i64) -> (&'static str, Value) {
    ("embeddings.dense", gte(number, at))
}

fn both(name: &'static str) -> Scenario {
    scenario(name).creates("claude", 1, [vector(1, 1)]).says("cognee", 2, [vector(2, 2)])
}

pub(super) fn table() -> Vec<Scenario> {
    vec![
        both("embeddings: the newer vector of a model shows and the other is kept")
            .meets([("embeddings.dense.gte", "both_kept")])
            .shows([
                ("dense.gte", 2.0.into()),
                ("alternative", 1.0.into()),
                ("embeddings.conflict_resolution", "keep_both".into()),
                ("embeddings.primary_source", "cognee".into()),
                ("embeddings.alternative_source", "claude".into()),
                ("stale", false.into()),
            ]),
        scenario("embeddings: the newer vector shows in either order of arrival")
            .meets([("embeddings.dense.gte", "both_kept")])
            .creates("cognee", 2, [vector(2, 2)])
            .says("claude", 1, [vector(1, 1)])
            .shows([("dense.gte", 2.0.into()), ("alternative", 1.0.into())]),
        scenario("embeddings: the same vector by both is kept once")
            .creates("claude", 1, [vector(1, 1)])
            .says("cognee", 2, [vector(1, 1)])
            .shows([("dense.gte", 1.0.into()), ("alternative", Value::Null)]),
        scenario("embeddings: different models do not conflict")
            .creates("claude", 1, [vector(1, 1)])
            .says("cognee", 2, [("embeddings.dense", dense("cognee", 2, 2))])
            .shows([("dense.gte", 1.0.into()), ("dense.cognee", 2.0.into()), ("alternative", Value::Null)]),
        scenario("embeddings: a writer of two models keeps both current")
            .creates("claude", 1, [("embeddings.dense", json!([gte(1, 1), dense("coderank", 3, 1)]))])
            .says("claude", 2, [("embeddings.dense", json!([gte(2, 2), dense("coderank", 3, 1)]))])
            .shows([("dense.gte", 2.0.into()), ("dense.coderank", 3.0.into()), ("alternative", Value::Null)]),
        both("embeddings: only the newest stays under `newest`")
            .meets([("embeddings.dense.gte", "source_kept")])
            .under(&[("embeddings", "newest")])
            .shows([("dense.gte", 2.0.into()), ("alternative", Value::Null)]),
        both("embeddings: the preferred writer's vector shows")
            .meets([("embeddings.dense.gte", "target_kept")])
            .under(&[("embeddings", "prefer:claude")])
            .shows([("dense.gte", 1.0.into()), ("alternative", Value::Null)]),
        both("embeddings: a manual conflict shows the held vector")
            .meets([("embeddings.dense.gte", "open")])
            .under(&[("embeddings", "manual")])
            .shows([("dense.gte", 1.0.into())]),
        scenario("embeddings: a vector made for another text is marked stale")
            .creates("claude", 1, [vector(1, 1)])
            .says("cognee", 2, [])
            .says("cognee", 10, [("content", "the text has become another".into())])
            .shows([("dense.gte", 1.0.into()), ("stale", true.into())]),
        scenario("embeddings: a new vector for the current text removes the stale mark")
            .creates("claude", 1, [vector(1, 1)])
            .says("claude", 10, [("content", "the text has become another".into())])
            .says("claude", 11, [vector(2, 11)])
            .shows([("dense.gte", 2.0.into()), ("stale", false.into())]),
        scenario("embeddings: a vector for the current text precedes a newer one for another text")
            .meets([("content", "target_kept"), ("embeddings.dense.gte", "both_kept")])
            .creates("claude", 1, [vector(1, 1)])
            .says("cognee", 2, [])
            .says("claude", 20, [("content", "the new text of claude".into()), vector(3, 20)])
            .says("cognee", 10, [("content", "the older text of cognee".into())])
            .says("cognee", 30, [vector(4, 30)])
            .shows([
                ("content", "the new text of claude".into()),
                ("dense.gte", 3.0.into()),
                ("alternative", 4.0.into()),
                ("stale", false.into()),
            ]),
        scenario("embeddings: a sparse vector that only one writer has stays")
            .meets([("embeddings.dense.gte", "both_kept")])
            .creates("claude", 1, [vector(1, 1), ("embeddings.sparse", sparse("splade", 1))])
            .says("cognee", 2, [vector(2, 2)])
            .says("cognee", 3, [vector(3, 3)])
            .shows([("sparse", "splade".into()), ("dense.gte", 3.0.into()), ("alternative", 1.0.into())]),
        scenario("embeddings: the newer of two sparse vectors shows")
            .meets([("embeddings.sparse", "source_kept")])
            .creates("claude", 1, [("embeddings.sparse", sparse("splade", 1))])
            .says("cognee", 2, [("embeddings.sparse", sparse("bm25", 2))])
            .shows([("sparse", "bm25".into())]),
        scenario("embeddings: a vector that its writer leaves out is gone")
            .creates("claude", 1, [vector(1, 1), ("embeddings.sparse", sparse("splade", 1))])
            .says("cognee", 2, [])
            .says("claude", 3, [("embeddings.dense", Value::Null)])
            .shows([("dense.gte", Value::Null), ("sparse", "splade".into())]),
    ]
}
