//! Tests the log on a real directory: what it writes, recovers, rejects and removes. `crash.rs` tests crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;

use std::fs;
use std::path::Path;
use std::time::Duration;

use chunk_sync_wal::{Completion, Options, Outcome, Pending, Recovery, Wal, WalError, inspect};
use jiff::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn at(time: &str) -> Timestamp {
    format!("2026-11-23T{time}Z").parse().unwrap()
}

fn open(dir: &Path) -> (Wal, Recovery) {
    Wal::open(dir, Options::default()).unwrap()
}

fn append(wal: &mut Wal, ids: &[&str], now: &str) {
    let batch: Vec<_> = ids.iter().map(|id| Pending::new(id, r#"{"x":1}"#)).collect();
    wal.append(&batch, at(now)).unwrap();
}

fn complete(wal: &mut Wal, ids: &[&str], now: &str) {
    let batch: Vec<_> = ids.iter().map(|id| Completion { operation_id: id, outcome: Outcome::Complete }).collect();
    wal.complete(&batch, at(now)).unwrap();
}

fn ids(recovery: &mut Recovery) -> Vec<String> {
    recovery.pending.by_ref().map(|entry| entry.unwrap().operation_id).collect()
}

fn pending(dir: &Path) -> Vec<String> {
    ids(&mut open(dir).1)
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".jsonl"));
    names.sort();
    names
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, recovery) = open(&dir.path().join("new/wal"));
    assert_eq!((wal.pending(), wal.bytes(), recovery.files, recovery.lines, recovery.pending.len()), (0, 0, 0, 0, 0));
}

#[test]
fn pending_operations_are_recovered_unchanged_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    let operation = "{\"status\":\"pending\",\"text\":\"line\\nbreak \u{2028} \\\"\"}";
    wal.append(&[Pending::new("z\"\n", operation)], at("04:15:00")).unwrap();
    append(&mut wal, &["b", "a", "c"], "04:15:01");
    complete(&mut wal, &["a"], "04:15:02");
    let failed = Completion { operation_id: "c", outcome: Outcome::Failed { error: "no \"such\" thing" } };
    wal.complete(&[failed], at("04:15:02")).unwrap();
    assert_eq!(wal.pending(), 2);
    drop(wal);
    let (wal, recovery) = open(dir.path());
    assert_eq!((wal.pending(), recovery.lines, recovery.files, recovery.pending.len()), (2, 6, 1, 2));
    let entries: Vec<_> = recovery.pending.map(Result::unwrap).collect();
    assert_eq!((&*entries[0].operation_id, &*entries[0].operation), ("z\"\n", operation));
    assert_eq!(entries[1].operation_id, "b");
}

#[test]
fn every_line_is_one_json_object() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    wal.append(&[Pending::new("a", "{\n  \"u\": \"\u{2028}\"\r\n}\n")], at("04:15:00")).unwrap();
    complete(&mut wal, &["a"], "04:15:01");
    let text = fs::read_to_string(dir.path().join("wal_20261123_04.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.split_terminator('\n').map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["operation"]["u"], "\u{2028}");
    assert_eq!(lines[1]["status"], "complete");
}

#[test]
fn a_completion_in_a_later_file_ends_the_operation() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["a", "b"], "04:59:59");
    append(&mut wal, &["c"], "05:00:00");
    complete(&mut wal, &["a", "c"], "06:00:00");
    drop(wal);
    assert_eq!(files(dir.path()), ["wal_20261123_04.jsonl", "wal_20261123_05.jsonl", "wal_20261123_06.jsonl"]);
    assert_eq!(pending(dir.path()), ["b"]);
}

#[test]
fn a_clock_that_steps_back_does_not_write_into_an_older_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["a"], "04:00:00");
    append(&mut wal, &["b"], "06:00:00");
    append(&mut wal, &["c"], "04:30:00");
    complete(&mut wal, &["a"], "05:30:00");
    drop(wal);
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["d"], "03:00:00");
    drop(wal);
    assert_eq!(files(dir.path()), ["wal_20261123_04.jsonl", "wal_20261123_06.jsonl"]);
    assert_eq!(pending(dir.path()), ["b", "c", "d"]);
}

#[test]
fn only_old_files_whose_operations_are_complete_are_retired() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["a"], "01:00:00");
    append(&mut wal, &["b"], "02:00:00");
    append(&mut wal, &["c"], "03:00:00");
    complete(&mut wal, &["a"], "04:00:00");
    assert_eq!(wal.retire(at("02:59:59"), HOUR).unwrap(), [""; 0]);
    assert_eq!(wal.retire(at("23:00:00"), HOUR).unwrap(), ["wal_20261123_01.jsonl"]);
    complete(&mut wal, &["b", "c"], "04:00:00");
    assert_eq!(wal.retire(at("04:30:00"), HOUR).unwrap(), ["wal_20261123_02.jsonl"]);
    assert_eq!(wal.retire(at("23:00:00"), HOUR).unwrap(), ["wal_20261123_03.jsonl"]);
    assert_eq!(files(dir.path()), ["wal_20261123_04.jsonl"], "the newest file stays, regardless of its age");
}

#[test]
fn a_file_of_completions_is_not_removed_before_the_file_of_their_operations() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["open", "done"], "01:00:00");
    complete(&mut wal, &["done"], "02:00:00");
    append(&mut wal, &["new"], "03:00:00");
    assert_eq!(wal.retire(at("23:00:00"), HOUR).unwrap(), [""; 0]);
    drop(wal);
    assert_eq!(pending(dir.path()), ["open", "new"]);
    let (mut wal, _) = open(dir.path());
    complete(&mut wal, &["open"], "04:00:00");
    let removed = wal.retire(at("23:00:00"), HOUR).unwrap();
    assert_eq!(removed, ["wal_20261123_01.jsonl", "wal_20261123_02.jsonl"]);
    drop(wal);
    assert_eq!(pending(dir.path()), ["new"]);
}

#[test]
fn a_full_log_rejects_a_batch_before_writing_and_accepts_it_once_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(dir.path(), Options { max_bytes: 400 }).unwrap();
    append(&mut wal, &["a", "b"], "04:15:00");
    let used = wal.bytes();
    let more = [Pending::new("c", r#"{"n":1}"#), Pending::new("d", r#"{"n":1}"#)];
    let rejected = wal.append(&more, at("05:15:00")).unwrap_err();
    assert!(matches!(rejected, WalError::Full { used: u, max: 400, .. } if u == used), "{rejected}");
    assert_eq!(wal.bytes(), used);
    assert_eq!(files(dir.path()), ["wal_20261123_04.jsonl"]);
    assert_eq!(wal.reclaim().unwrap(), [""; 0], "operations are pending");

    complete(&mut wal, &["a", "b"], "04:15:01");
    assert!(wal.bytes() > 400, "completions are always written");
    assert_eq!(wal.reclaim().unwrap(), ["wal_20261123_04.jsonl"]);
    wal.append(&more, at("04:15:02")).unwrap();
    drop(wal);
    assert_eq!(pending(dir.path()), ["c", "d"]);
}

#[test]
fn a_batch_that_can_never_fit_is_too_large_and_not_full() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(dir.path(), Options { max_bytes: 500 }).unwrap();
    let operation = format!(r#"{{"x":"{}"}}"#, "x".repeat(500));
    let rejected = wal.append(&[Pending::new("a", &operation)], at("04:15:00")).unwrap_err();
    assert!(matches!(rejected, WalError::TooLarge { max: 500, .. }), "{rejected}");
    append(&mut wal, &["b"], "04:15:00");
}

#[test]
fn a_rejected_operation_rejects_its_whole_batch_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    let batch = [Pending::new("a", "{}"), Pending::new("b", "[]")];
    let rejected = wal.append(&batch, at("04:15:00")).unwrap_err();
    assert!(matches!(rejected, WalError::NotAnObject { operation_id } if operation_id == "b"));
    assert_eq!((wal.pending(), wal.bytes()), (0, 0));
    append(&mut wal, &["c"], "04:15:00");
}

#[test]
fn an_operation_appended_twice_is_pending_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = open(dir.path());
    append(&mut wal, &["a", "a"], "04:15:00");
    append(&mut wal, &["a"], "05:15:00");
    assert_eq!(wal.pending(), 1);
    drop(wal);
    assert_eq!(pending(dir.path()), ["a"]);
    let (mut wal, _) = open(dir.path());
    complete(&mut wal, &["a", "a", "never begun"], "06:15:00");
    assert_eq!(wal.pending(), 0);
    assert_eq!(wal.retire(at("23:00:00"), HOUR).unwrap().len(), 2);
    append(&mut wal, &["a"], "06:16:00");
    drop(wal);
    assert_eq!(pending(dir.path()), ["a"], "appended again after its completion");
}

#[test]
fn a_second_open_is_refused_with_the_holder_and_inspection_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, recovery) = open(dir.path());
    append(&mut wal, &["a"], "04:15:00");
    append(&mut wal, &["b"], "05:15:00");
    complete(&mut wal, &["a"], "05:15:01");
    let rejected = Wal::open(dir.path(), Options::default()).unwrap_err();
    assert!(rejected.to_string().contains(dir.path().to_str().unwrap()), "{rejected}");
    assert!(matches!(rejected, WalError::Locked { holder: Some(pid), .. } if pid == std::process::id()));

    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.pending, report.lines, report.bytes), (1, 3, wal.bytes()));
    assert_eq!(report.oldest_pending, Some(at("05:15:00")));
    assert_eq!(report.files.iter().map(|file| file.pending).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((report.torn, report.damaged), (None, vec![]));
    drop((wal, recovery));
    open(dir.path());
}

#[test]
fn inspecting_a_missing_directory_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = inspect(&dir.path().join("missing")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn replays_are_counted_until_the_operation_ends() {
    let dir = tempfile::tempdir().unwrap();
    let replays = |recovery: Recovery| -> Vec<(String, u32)> {
        recovery.pending.map(|entry| entry.unwrap()).map(|entry| (entry.operation_id, entry.replays)).collect()
    };
    append(&mut open(dir.path()).0, &["a", "b"], "04:15:00");
    for start in 0..3 {
        let (mut wal, recovery) = open(dir.path());
        assert_eq!(replays(recovery), [("a".to_owned(), start), ("b".to_owned(), 0)]);
        // A repeated append of the same operation is not a replay.
        append(&mut wal, &["b"], "04:16:00");
        wal.begin_again(&["a", "unknown"], at("05:00:00")).unwrap();
        assert_eq!(wal.pending(), 2);
    }
    let entries: Vec<_> = chunk_sync_wal::pending(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!((entries.len(), entries[0].replays, &*entries[0].operation), (2, 3, r#"{"x":1}"#));
    let mut wal = open(dir.path()).0;
    complete(&mut wal, &["a"], "05:01:00");
    append(&mut wal, &["a"], "05:02:00");
    drop(wal);
    assert_eq!(replays(open(dir.path()).1), [("b".to_owned(), 0), ("a".to_owned(), 0)]);
}

#[test]
fn a_full_log_still_accepts_notes_of_replays() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open(dir.path()).0, &["a"], "04:15:00");
    let (mut wal, _) = Wal::open(dir.path(), Options { max_bytes: 1 }).unwrap();
    wal.begin_again(&["a"], at("04:16:00")).unwrap();
}

#[test]
fn a_completion_without_its_pending_line_is_counted_and_has_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = open(dir.path()).0;
    append(&mut wal, &["a"], "04:15:00");
    complete(&mut wal, &["a"], "05:15:00");
    assert_eq!(inspect(dir.path()).unwrap().unmatched, 0);
    wal.retire(at("09:00:00"), HOUR).unwrap();
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.unmatched, report.pending, report.damaged.len()), (1, 0, 0));
}
