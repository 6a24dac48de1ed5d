//! What is shown of conflicts, as text.
#![allow(clippy::unwrap_used)]

use chunk_sync_engine::ports::Closed;
use chunk_sync_model::merge::Conflict;
use chunk_sync_model::{Hash, Part, SyncVersion};
use serde_json::{Value, json};

use super::show::{Look, text as shown};
use super::*;

const PLAIN: Look = Look { width: None, colours: false };

fn side(writer: Writer, value: Option<Value>) -> Side {
    let hash = value.as_ref().map(|value| Hash::of_bytes(value.to_string().as_bytes()));
    Side { writer: Some(writer), time: Some(Time::from_micros(1_800_000_000_000_000)), hash, value }
}

fn entry(part: &str, base: Value, source: Value, target: Value) -> Recorded {
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
    Recorded { id: 17, chunk: Uuid::nil(), met: Met { at, sync_version: SyncVersion::new(9), closed: None, conflict } }
}

fn content() -> Recorded {
    entry("content", json!("one\ntwo\nthree\n"), json!("one\nzwei\nthree\n"), json!("one\ndeux\nthree\n"))
}

#[test]
fn a_list_has_a_line_each_and_says_what_is_left_out() {
    let mut open = entry("metadata.a\u{1b}[31m", json!(1), json!(2), json!(3));
    open.met.conflict.outcome = Outcome::Open;
    let mut closed = open.clone();
    closed.met.closed = Some(Closed { at: open.met.at, by: Writer::Operator });
    let listed = text(&[open, closed, content()], true, 1_234);
    assert!(listed.contains("2027-01-15T08:00:01Z"), "{listed}");
    assert!(listed.contains("closed by operator") && listed.contains("source_kept"), "{listed}");
    assert!(!listed.contains('\u{1b}'), "what a stranger wrote does not steer the terminal: {listed}");
    assert!(listed.ends_with("… and older ones: --below 17\n3 conflicts; 1,234 open in all"), "{listed}");
    assert_eq!(text(&[], false, 0), "0 conflicts; 0 open in all");
}

#[test]
fn a_wide_terminal_shows_the_sides_beside_each_other_and_a_narrow_one_below() {
    let wide = shown(&content(), Look { width: Some(140), ..PLAIN });
    let line = wide.lines().find(|line| line.contains("what")).unwrap();
    assert_eq!(line.matches("one").count(), 4, "{wide}");
    assert!(wide.lines().all(|line| line.chars().count() <= 140), "{wide}");
    for look in [PLAIN, Look { width: Some(80), ..PLAIN }] {
        let narrow = shown(&content(), look);
        for side in ["base: claude, 2027", "source: claude, 2027", "target: cognee, 2027", "result: claude, 2027"] {
            assert!(narrow.lines().any(|line| line.starts_with(side)), "{narrow}");
        }
    }
}

#[test]
fn lines_that_differ_are_coloured_where_colours_are_wanted_only() {
    let plain = shown(&content(), PLAIN);
    assert!(plain.ends_with("from target (-) to source (+):\n@@ -1,3 +1,3 @@\n one\n-deux\n+zwei\n three"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let coloured = shown(&content(), Look { colours: true, ..PLAIN });
    assert!(coloured.contains("\u{1b}[31m-deux\u{1b}[0m\n\u{1b}[32m+zwei\u{1b}[0m\n"), "{coloured}");
}

#[test]
fn vectors_are_shortened_and_what_is_not_there_is_said() {
    let dense = |first: f32| json!({"model": "gte", "vector": vec![first; 768], "timestamp": "2026-01-01T00:00:00Z"});
    let mut vectors = entry("embeddings.dense.gte", dense(0.5), dense(0.25), dense(2.0));
    vectors.met.conflict.base = Side::default();
    vectors.met.conflict.result.value = None;
    let text = shown(&vectors, PLAIN);
    assert!(text.contains("768 numbers, made 2026-01-01T00:00:00Z: [0.25, 0.25, 0.25, 0.25, 0.25, …]"), "{text}");
    assert!(text.contains("base: nobody\n(not there)"), "{text}");
    assert!(text.contains("(not kept; its hash is"), "{text}");
    assert!(!text.contains("@@"), "{text}");
}
