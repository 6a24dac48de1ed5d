//! Lines and files that are damaged or foreign.

use std::fs;
use std::io::Write;
use std::path::Path;

use chunk_sync_wal::{Recovery, WalError, inspect};

use super::{append, complete, files, ids, open, pending};

/// Appends `ids` to one file, changes the text of the file and returns its path.
fn damaged(dir: &Path, ids: &[&str], change: impl Fn(String) -> String) -> std::path::PathBuf {
    append(&mut open(dir).0, ids, "04:15:00");
    let file = dir.join("wal_20261123_04.jsonl");
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
    file
}

#[test]
fn a_torn_last_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), &["a", "b"], |text| text[..text.len() - 1].to_owned());
    let report = inspect(dir.path()).unwrap();
    assert_eq!(report.torn.as_ref().map(|torn| torn.line), Some(2));
    let (mut wal, mut recovery) = open(dir.path());
    assert_eq!(recovery.torn, report.torn);
    assert_eq!(recovery.torn.as_ref().unwrap().offset, fs::metadata(&file).unwrap().len());
    assert_eq!(ids(&mut recovery), ["a"]);
    append(&mut wal, &["c"], "04:16:00");
    drop((wal, recovery));
    let (_, mut recovery) = open(dir.path());
    assert_eq!((ids(&mut recovery), recovery.torn, recovery.damaged), (vec!["a".into(), "c".into()], None, vec![]));
}

#[test]
fn a_damaged_line_in_the_middle_is_set_aside_once_and_the_other_lines_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), &["a", "b", "c"], |text| {
        text.replacen(r#""b","operation":{"x":1"#, r#""b","operation":{"x":2"#, 1)
    });
    let before = fs::read(&file).unwrap();
    let (_, mut recovery) = open(dir.path());
    assert_eq!(ids(&mut recovery), ["a", "c"]);
    let [damage] = &recovery.damaged[..] else { panic!("{:?}", recovery.damaged) };
    assert_eq!((&*damage.file, damage.line, &*damage.reason), ("wal_20261123_04.jsonl", 2, "checksum mismatch"));
    drop(recovery);

    assert_eq!(fs::read(&file).unwrap(), before, "the file itself is never rewritten");
    let damaged = fs::read_to_string(dir.path().join("wal_20261123_04.jsonl.damaged")).unwrap();
    assert_eq!(damaged.lines().collect::<Vec<_>>(), [std::str::from_utf8(&before).unwrap().lines().nth(1).unwrap()]);

    let (_, mut again) = open(dir.path());
    assert_eq!((ids(&mut again), again.damaged), (vec!["a".into(), "c".into()], vec![]));
    let report = inspect(dir.path()).unwrap();
    assert_eq!((report.damaged.len(), report.damaged[0].set_aside, report.damaged[0].damage.line), (1, true, 2));
}

#[test]
fn new_damage_is_reported_when_older_damage_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), &["a", "b", "c"], |text| text.replacen("\"b\"", "\"B\"", 1));
    assert_eq!(open(dir.path()).1.damaged.len(), 1);
    let damaged = dir.path().join("wal_20261123_04.jsonl.damaged");
    fs::OpenOptions::new().append(true).open(&damaged).unwrap().write_all(b"interrupted").unwrap();
    let mut bytes = fs::read_to_string(&file).unwrap().replacen("\"c\"", "\"C\"", 1).into_bytes();
    bytes.extend_from_slice(b"\n\xff\xfe\n");
    fs::write(&file, bytes).unwrap();
    let lines = |recovery: Recovery| recovery.damaged.iter().map(|damage| damage.line).collect::<Vec<_>>();
    assert_eq!(lines(open(dir.path()).1), [3, 4, 5]);
    assert_eq!(lines(open(dir.path()).1), [0; 0]);
    assert_eq!(pending(dir.path()), ["a"]);
}

#[test]
fn two_lines_without_a_line_end_between_them_are_both_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path(), &["a", "b", "c"], |text| text.replacen('\n', " ", 1));
    let (_, mut recovery) = open(dir.path());
    assert_eq!((ids(&mut recovery), recovery.damaged.len()), (vec!["c".into()], 1));
}

#[test]
fn an_overlong_line_is_damage_and_the_other_lines_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), &["a", "b"], |text| {
        let long = "x".repeat(chunk_sync_wal::MAX_LINE + (1 << 20));
        text.replacen('\n', &format!("\n{long}\n"), 1)
    });
    let (_, mut recovery) = open(dir.path());
    assert_eq!(ids(&mut recovery), ["a", "b"]);
    let length = chunk_sync_wal::MAX_LINE as u64 + (1 << 20);
    assert_eq!((recovery.damaged[0].line, recovery.damaged[0].length), (2, length));
    drop(recovery);
    assert_eq!(open(dir.path()).1.damaged, []);
    assert!(fs::metadata(file).unwrap().len() > length);
}

#[test]
fn the_last_line_of_an_older_file_is_damaged_only_if_its_checksum_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = damaged(dir.path(), &["a", "b"], |text| text.trim_end().to_owned());
    fs::write(dir.path().join("wal_20261123_05.jsonl"), "").unwrap();
    assert_eq!(pending(dir.path()), ["a", "b"]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 1]).unwrap();
    let (_, mut recovery) = open(dir.path());
    assert_eq!((ids(&mut recovery), recovery.torn, recovery.damaged.len()), (vec!["a".into()], None, 1));
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "not a line of the log").unwrap();
    fs::write(dir.path().join("wal_20261123_4.jsonl"), "neither is this").unwrap();
    fs::create_dir(dir.path().join("wal_20261123_03.jsonl")).unwrap();
    let (mut wal, recovery) = open(dir.path());
    assert_eq!((recovery.files, recovery.damaged), (0, vec![]));
    append(&mut wal, &["a"], "04:15:00");
    complete(&mut wal, &["a"], "04:15:00");
    wal.reclaim().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "not a line of the log");
    assert_eq!(files(dir.path()), ["wal_20261123_03.jsonl", "wal_20261123_4.jsonl"]);
}

#[test]
fn a_line_that_changes_after_opening_is_not_replayed() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open(dir.path()).0, &["a", "b"], "04:15:00");
    let (_wal, mut recovery) = open(dir.path());
    let file = dir.path().join("wal_20261123_04.jsonl");
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("\"x\":1", "\"x\":2", 1)).unwrap();
    let error = recovery.pending.next().unwrap().unwrap_err();
    assert!(matches!(error, WalError::Changed { offset: 0, .. }), "{error}");
    assert_eq!(recovery.pending.next().unwrap().unwrap().operation_id, "b");
}
