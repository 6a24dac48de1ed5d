//! The text output of the conflict commands.
#![allow(clippy::unwrap_used)]

use chunk_sync_engine::ports::Resolution;
use chunk_sync_model::merge::Conflict;
use chunk_sync_model::{Hash, Part, SyncVersion};
use serde_json::{Value, json};

use super::show::{Display, text as shown};
use super::*;

const PLAIN: Display = Display { width: None, colours: false };

fn side(writer: Writer, value: Option<Value>) -> Side {
    let hash = value.as_ref().map(|value| Hash::of_bytes(value.to_string().as_bytes()));
    Side { writer: Some(writer), time: Some(Time::from_micros(1_800_000_000_000_000)), hash, value }
}

fn entry(part: &str, base: Value, source: Value, target: Value) -> ConflictRecord {
    let part: Part = part.parse().unwrap();
    let conflict = Conflict {
        kind: Kind::of(&part),
        part,
        strategy: Strategy::LastWriteWins,
        outcome: Outcome::SourceKept,
        base: side(Writer::Claude, Some(base)),
        source: side(Writer::Claude, Some(source.clone())),
        target: side(Writer::Cognee, Some(target)),
        result: side(Writer::Claude, Some(source)),
    };
    let at = Time::from_micros(1_800_000_001_234_567);
    ConflictRecord {
        id: 17,
        chunk: Uuid::nil(),
        noted: NewConflict { at, sync_version: SyncVersion::new(9), closed: None, conflict },
    }
}

fn content() -> ConflictRecord {
    entry("content", json!("one\ntwo\nthree\n"), json!("one\nzwei\nthree\n"), json!("one\ndeux\nthree\n"))
}

#[test]
fn a_list_has_one_line_per_conflict_and_names_the_option_for_the_rest() {
    let mut open = entry("metadata.a\u{1b}[31m", json!(1), json!(2), json!(3));
    open.noted.conflict.outcome = Outcome::Open;
    let mut closed = open.clone();
    closed.noted.closed = Some(Resolution { at: open.noted.at, by: Writer::Operator });
    let listed = text(&[open, closed, content()], true, 1_234);
    assert!(listed.contains("2027-01-15T08:00:01Z"), "{listed}");
    assert!(listed.contains("closed by operator") && listed.contains("source_kept"), "{listed}");
    assert!(!listed.contains('\u{1b}'), "foreign text must not control the terminal: {listed}");
    assert!(listed.ends_with("… older conflicts: --below 17\n3 conflicts; 1,234 open in all"), "{listed}");
    assert_eq!(text(&[], false, 0), "0 conflicts; 0 open in all");
}

#[test]
fn a_wide_terminal_shows_the_sides_in_columns_and_a_narrow_one_below_each_other() {
    let wide = shown(&content(), Display { width: Some(140), ..PLAIN });
    let line = wide.lines().find(|line| line.contains("value")).unwrap();
    assert_eq!(line.matches("one").count(), 4, "{wide}");
    assert!(wide.lines().all(|line| line.chars().count() <= 140), "{wide}");
    for display in [PLAIN, Display { width: Some(80), ..PLAIN }] {
        let narrow = shown(&content(), display);
        for side in ["base: claude, 2027", "source: claude, 2027", "target: cognee, 2027", "result: claude, 2027"] {
            assert!(narrow.lines().any(|line| line.starts_with(side)), "{narrow}");
        }
    }
}

#[test]
fn differing_lines_are_coloured_only_if_colours_are_on() {
    let plain = shown(&content(), PLAIN);
    assert!(plain.ends_with("from target (-) to source (+):\n@@ -1,3 +1,3 @@\n one\n-deux\n+zwei\n three"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let coloured = shown(&content(), Display { colours: true, ..PLAIN });
    assert!(coloured.contains("\u{1b}[31m-deux\u{1b}[0m\n\u{1b}[32m+zwei\u{1b}[0m\n"), "{coloured}");
}

#[test]
fn vectors_are_shortened_and_absent_values_are_marked() {
    let dense = |first: f32| json!({"model": "gte", "vector": vec![first; 768], "timestamp": "2026-01-01T00:00:00Z"});
    let mut vectors = entry("embeddings.dense.gte", dense(0.5), dense(0.25), dense(2.0));
    vectors.noted.conflict.base = Side::default();
    vectors.noted.conflict.result.value = None;
    let text = shown(&vectors, PLAIN);
    assert!(text.contains("768 numbers, created 2026-01-01T00:00:00Z: [0.25, 0.25, 0.25, 0.25, 0.25, …]"), "{text}");
    assert!(text.contains("base: no writer\n(absent)"), "{text}");
    assert!(text.contains("(value not kept; hash "), "{text}");
    assert!(!text.contains("@@"), "{text}");
}
