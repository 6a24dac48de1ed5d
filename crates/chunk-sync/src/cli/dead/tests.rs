//! The text output of the dead letter commands, and the filters.
#![allow(clippy::unwrap_used)]

use chunk_sync_engine::ports::{DeadLetter, Letter};
use chunk_sync_model::{Event, Limits, Target};
use serde_json::json;

use super::list::text;
use super::*;
use crate::letters::Line;

fn dead(chunk: &[u8]) -> Dead {
    let letter = DeadLetter {
        id: Some(EntryId { millis: 1_800_000_000_000, sequence: 0 }),
        fields: vec![(b"source".to_vec(), b"claude".to_vec()), (b"chunk".to_vec(), chunk.to_vec())],
        at: Time::from_micros(1_800_000_001_234_567),
        class: FaultClass::Rejected,
        error: format!("no\u{1b}[31m colours\nhere, and {}", "very ".repeat(50)),
        field: Some("chunk.content".into()),
        attempts: 3,
        missing: vec![Target::Qdrant],
    };
    let letter = Letter { id: EntryId { millis: 1_800_000_002_000, sequence: 7 }, fields: letter.fields() };
    let event = Event::from_fields(&letter.original(), &Limits::default());
    Dead { reasons: letter.reasons(), event, superseded: true, letter }
}

fn chunk() -> Vec<u8> {
    json!({"id": Uuid::max(), "embeddings": {"dense": {"vector": vec![0.5; 768], "vector_b64": "A".repeat(4096)}}})
        .to_string()
        .into()
}

#[test]
fn a_list_has_one_line_per_dead_letter_and_fits_the_terminal() {
    let lines = [Line::of(&dead(&chunk())), Line::of(&dead(b"\xff"))];
    let listed = text(&lines, true, 1_234, Some(200));
    assert!(listed.lines().all(|line| line.trim_end().chars().count() <= 200), "{listed}");
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.contains("2027-01-15T08:00:01Z") && listed.contains(&Uuid::max().to_string()), "{listed}");
    assert!(listed.contains("superseded; no\\u{1b}[31m colours here, and very"), "{listed}");
    assert!(listed.ends_with("… more dead letters: --after 1800000002000-7\n2 dead letters; 1,234 in all"), "{listed}");
    assert!(
        text(&lines, false, 2, None).lines().any(|line| line.chars().count() > 300),
        "without a terminal nothing is cut"
    );
    assert_eq!(text(&[], false, 0, None), "0 dead letters; 0 in all");
}

#[test]
fn vectors_are_shortened_and_bytes_that_are_not_utf8_are_shown_as_base64() {
    let shown = show::text(&dead(&chunk()));
    assert!(shown.contains("… 768 numbers") && shown.contains("AAAAAAAAAAAAAAAA… 4096 characters"), "{shown}");
    assert!(shown.contains("\ncannot be published again: ") && !shown.contains('\u{1b}'), "{shown}");
    assert!(show::text(&dead(b"\xff")).contains("chunk: (not UTF-8; base64) /w=="));
}

#[test]
fn a_filter_matches_only_if_every_set_condition_holds() {
    let dead = dead(&chunk());
    let filter = |set: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::default();
        set(&mut filter);
        filter.matches(&dead)
    };
    assert!(filter(&|_| {}) && filter(&|f| f.chunk = Some(Uuid::max())) && !filter(&|f| f.chunk = Some(Uuid::nil())));
    assert!(filter(&|f| f.class = Some("rejected")) && !filter(&|f| f.class = Some("corrupt")));
    assert!(filter(&|f| f.source = Some("claude".into())) && !filter(&|f| f.source = Some("cognee".into())));
    assert!(filter(&|f| f.field = Some("chunk".into())) && !filter(&|f| f.field = Some("chu".into())));
    assert!(filter(&|f| f.superseded = true));
    assert!(filter(&|f| f.since = dead.reasons.at) && !filter(&|f| f.since = Some(Time::from_micros(i64::MAX / 2))));
    assert_eq!(class("rejected"), Ok("rejected"));
    assert!(class("broken").unwrap_err().contains("timeout"));
}
