//! Tests merge: the result of the writers' changes, regardless of their order of arrival.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use chunk_sync_model::merge::{Change, Effect};
use chunk_sync_model::{EventType, PartPattern, Writer};
use uuid::Uuid;

use support::{MergedChunk, chunk, delete, update, view};

const A: Writer = Writer::Claude;
const B: Writer = Writer::Cognee;

#[test]
fn a_writer_does_not_remove_what_another_added() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "fn main() {}", &[("language", "rust")])));
    held.take(&update(B, 2, &chunk("cognee", "fn main() {}", &[("topic", "entry")])));
    held.take(&update(A, 3, &chunk("claude", "fn main() { go() }", &[("language", "rust")])));
    assert_eq!(held.chunk().content, "fn main() { go() }");
    assert_eq!(held.metadata("topic").as_deref(), Some("entry"));
    assert_eq!(held.metadata("language").as_deref(), Some("rust"));
    assert_eq!(held.chunk().system_origin.as_str(), "hybrid");
}

#[test]
fn writing_back_a_chunk_with_one_edit_changes_only_that_field() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one"), ("owner", "ann")])));
    let mut read = held.chunk().clone();
    held.take(&update(A, 2, &chunk("claude", "the content", &[("title", "two"), ("owner", "ann")])));
    read.metadata.extra.insert("owner".into(), "bob".into());
    held.take(&update(B, 3, &read));
    assert_eq!(held.metadata("title").as_deref(), Some("two"), "an older value that is written back is an echo");
    assert_eq!(held.metadata("owner").as_deref(), Some("bob"));
}

#[test]
fn a_revert_takes_effect_if_the_part_is_named_in_set() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "two")])));
    let back = chunk("cognee", "the content", &[("title", "one")]);
    held.take(&update(B, 3, &back));
    assert_eq!(held.metadata("title").as_deref(), Some("two"));
    let set: Vec<PartPattern> = vec!["metadata.title".parse().unwrap()];
    held.take(&Change { set: &set, ..update(B, 4, &back) });
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
}

#[test]
fn omitting_a_part_removes_it_only_if_the_writer_had_set_it() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("mine", "a"), ("both", "a")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("theirs", "b"), ("both", "a")])));
    held.take(&update(B, 3, &chunk("cognee", "the content", &[])));
    assert_eq!(held.metadata("mine").as_deref(), Some("a"));
    assert_eq!(held.metadata("theirs"), None);
    assert_eq!(held.metadata("both").as_deref(), Some("a"), "it was an echo: the writer never set it");
}

#[test]
fn a_part_named_unchanged_is_neither_changed_nor_removed() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    let unchanged: Vec<PartPattern> = vec!["content".parse().unwrap(), "metadata".parse().unwrap()];
    held.take(&Change { unchanged: &unchanged, ..update(A, 2, &chunk("claude", "", &[])) });
    assert_eq!(held.chunk().content, "the content");
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
}

#[test]
fn an_update_by_a_writer_that_knew_the_chunk_does_not_undo_the_delete_of_another() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("topic", "x")])));
    held.take(&delete(A, 3));
    let merged = held.take(&update(B, 4, &chunk("cognee", "the content", &[("topic", "y")])));
    assert!(held.state.is_none());
    assert_eq!(merged.effect, Effect::Remembered);
    assert!(!merged.conflicts.is_empty(), "an update of a deleted chunk is recorded as a conflict");
    held.take(&view(B, 5, EventType::Create, &chunk("cognee", "the content", &[("topic", "y")])));
    assert_eq!(held.metadata("topic").as_deref(), Some("y"));
    assert_eq!(held.chunk().content, "the content");
}

#[test]
fn a_late_update_does_not_revive_a_deleted_chunk() {
    let mut held = MergedChunk::default();
    let first = chunk("claude", "the content", &[]);
    held.take(&update(A, 1, &first));
    held.take(&delete(A, 3));
    let merged = held.take(&update(A, 2, &first));
    assert_eq!(merged.effect, Effect::Nothing);
    assert!(held.state.is_none());
    held.take(&update(A, 4, &chunk("claude", "created again", &[])));
    assert_eq!(held.chunk().content, "created again");
}

#[test]
fn a_repeated_event_has_no_effect_and_two_events_of_one_microsecond_both_have() {
    let mut held = MergedChunk::default();
    let (one, two) = (chunk("claude", "the content", &[("n", "1")]), chunk("claude", "the content", &[("n", "2")]));
    held.take(&update(A, 1, &one));
    assert_eq!(held.take(&update(A, 1, &one)).effect, Effect::Nothing);
    let second = Change { event: Uuid::from_u128(99), ..update(A, 1, &two) };
    assert_eq!(held.take(&second).effect, Effect::Shown);
    assert_eq!(held.take(&update(A, 1, &one)).effect, Effect::Nothing);
    assert_eq!(held.metadata("n").as_deref(), Some("2"));
}

#[test]
fn both_embeddings_of_a_conflict_are_kept_and_the_one_computed_from_the_content_is_primary() {
    let with = |origin: &str, content: &str, number: f32| {
        let mut chunk = chunk(origin, content, &[]);
        let dense = serde_json::json!({"model": "gte", "vector": [number, 0.5], "timestamp": "2026-01-01T00:00:00Z"});
        chunk.embeddings.dense = vec![serde_json::from_value(dense).unwrap()];
        chunk
    };
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &with("claude", "the content", 1.0)));
    held.take(&update(B, 2, &with("cognee", "the content", 2.0)));
    let shown = held.chunk().embeddings.clone();
    assert_eq!(shown.dense[0].vector[0], 2.0);
    assert_eq!(shown.dense_alternative.unwrap().vector[0], 1.0);
    assert_eq!(
        (shown.primary_source.as_deref(), shown.alternative_source.as_deref()),
        (Some("cognee"), Some("claude"))
    );
    held.take(&update(A, 3, &with("claude", "new content", 3.0)));
    assert_eq!(held.chunk().embeddings.dense[0].vector[0], 3.0);
    assert!(!held.state.as_ref().unwrap().embedding_stale);
    held.take(&update(B, 4, &with("cognee", "newer content", 2.0)));
    assert!(held.state.as_ref().unwrap().embedding_stale, "neither was computed from the shown content");
}

#[test]
fn a_direct_change_of_the_row_takes_effect_even_if_it_restores_an_older_value() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("title", "one")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("title", "two")])));
    let mut row = held.chunk().clone();
    row.metadata.extra.insert("title".into(), "one".into());
    held.take(&update(Writer::Postgres, 3, &row));
    assert_eq!(held.metadata("title").as_deref(), Some("one"));
    row.metadata.extra.remove("title");
    held.take(&update(Writer::Postgres, 4, &row));
    assert_eq!(held.metadata("title"), None);
    let same = held.chunk().clone();
    assert_ne!(
        held.take(&update(Writer::Postgres, 5, &same)).effect,
        Effect::Shown,
        "the row equals what the service wrote"
    );
}

#[test]
fn two_keys_with_the_same_value_each_keep_it() {
    let mut held = MergedChunk::default();
    held.take(&update(A, 1, &chunk("claude", "the content", &[("one", "same"), ("two", "same")])));
    held.take(&update(B, 2, &chunk("cognee", "the content", &[("one", "other"), ("two", "other")])));
    let keeps = |held: &MergedChunk, key: &str| {
        let part = format!("metadata.{key}").parse().unwrap();
        held.record.as_ref().unwrap().writers[&A].parts[&part][0].value.clone()
    };
    assert_eq!(keeps(&held, "one").as_deref(), Some("\"same\""));
    assert_eq!(keeps(&held, "two").as_deref(), Some("\"same\""));
}
