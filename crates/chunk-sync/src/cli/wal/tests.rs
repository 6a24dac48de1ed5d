//! The text output of the `wal` commands.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use chunk_sync_wal::{Completion, Options, Outcome, Pending, Wal, inspect};
use jiff::Timestamp;

use super::inspect::{Check, Status, check_text, size, status_text};

const NOW: &str = "2026-11-23T04:15:00Z";

/// A log with three operations, one of which is complete.
fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(dir.path(), Options::default()).unwrap().0;
    let now = NOW.parse().unwrap();
    for operation_id in ["a-1", "b-1", "c-1"] {
        wal.append(&[Pending::new(operation_id, r#"{"x":1}"#)], now).unwrap();
    }
    wal.complete(&[Completion { operation_id: "b-1", outcome: Outcome::Complete }], now).unwrap();
    dir
}

fn check(dir: &tempfile::TempDir, held_by: Option<&str>) -> Check {
    Check::of("wal".into(), held_by.map(str::to_owned), inspect(dir.path()).unwrap())
}

#[test]
fn an_undamaged_log_is_reported_as_sound() {
    let dir = log();
    let check = check(&dir, None);
    assert!(check.sound);
    assert_eq!(check_text(&check), "wal: 1 file, 4 lines, 2 pending: sound; not in use");
}

#[test]
fn damage_is_reported_with_file_and_line() {
    let dir = log();
    let file = dir.path().join("wal_20261123_04.jsonl");
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("b-1", "B-1", 1)).unwrap();
    let check = check(&dir, None);
    assert!(!check.sound);
    let text = check_text(&check);
    assert!(text.starts_with("wal_20261123_04.jsonl:2: checksum mismatch (byte "), "{text}");
    assert!(text.contains("1 completion without a matching operation in these files"), "{text}");
    assert!(text.ends_with("2 pending: 1 damaged line; not in use"), "{text}");
}

#[test]
fn an_incomplete_last_line_is_damage_only_if_no_process_writes_the_log() {
    let dir = log();
    let mut file = fs::File::options().append(true).open(dir.path().join("wal_20261123_04.jsonl")).unwrap();
    file.write_all(br#"{"timestamp":"2026"#).unwrap();
    assert!(check(&dir, Some("process 17")).sound);
    let torn = check(&dir, None);
    assert!(!torn.sound);
    assert!(check_text(&torn).contains("wal_20261123_04.jsonl:5: torn: 18 bytes without a line end"));
}

#[test]
fn the_status_shows_the_free_space_and_the_age_of_the_oldest_pending_operation() {
    let dir = log();
    let report = inspect(dir.path()).unwrap();
    let status = Status {
        dir: "wal".into(),
        held_by: Some("process 17".into()),
        bytes: 512 << 10,
        max_bytes: 8 << 30,
        free_bytes: Some(3 << 29),
        lines: report.lines,
        pending: report.pending,
        oldest_pending: report.oldest_pending,
        damaged: 0,
        torn: None,
        files: report.files,
    };
    let now: Timestamp = "2026-11-23T04:45:00Z".parse().unwrap();
    let text = status_text(&status, now);
    assert!(
        text.starts_with("log in wal: in use by process 17\n512.0 KiB of 8.0 GiB used (0.0 %); 1.5 GiB free"),
        "{text}"
    );
    assert!(text.contains("2 operations pending, the oldest since 2026-11-23T04:15:00Z (1,800 s)"), "{text}");
    assert!(text.contains("wal_20261123_04.jsonl"), "{text}");
}

#[test]
fn sizes_are_shown_in_binary_units() {
    assert_eq!([0, 1023, 1536, 5 << 40].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]);
}
