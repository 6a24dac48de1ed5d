//! The program as a user runs it, on embedded stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use chunk_sync_samples::generate::Generator;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// A temporary directory that contains a configuration.
fn environment() -> TempDir {
    let dir = TempDir::new().unwrap();
    let config =
        format!("embedded.dir = {:?}\nhttp.listen = \"127.0.0.1:0\"\nlog.level = \"warn\"\n", dir.path().join("data"));
    std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
    dir
}

fn program(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
    command.current_dir(dir).args(arguments).stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(dir, arguments).output().unwrap();
    (
        status.code().expect("the program was killed by a signal"),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// Runs the program, asserts exit code 0, and returns standard output.
fn fine(dir: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = run(dir, arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

fn lines(count: usize) -> Vec<String> {
    Generator::new(21).take(count).map(|chunk| chunk.to_string()).collect()
}

fn verified(dir: &Path) -> Value {
    serde_json::from_str(&fine(dir, &["verify", "--json"])).unwrap()
}

/// What by-hand writing leaves behind, the same on every machine: the four chunks that were edited while the graph was down,
/// the five whose writes crossed, and two that were deleted from the table only.
const BY_HAND: u64 = 11;

#[test]
fn the_demo_shows_drift_by_hand_and_none_through_the_service() {
    let dir = environment();
    let out = fine(dir.path(), &["demo"]);
    let part = |number: u8| {
        let (_, rest) =
            out.split_once(&format!("\n{number}. ")).unwrap_or_else(|| panic!("no part {number} in\n{out}"));
        rest.split("\n\n").next().unwrap()
    };
    assert!(part(1).contains(&format!("✗ {BY_HAND} of 158 chunks differ. No program has reported it.")), "{out}");
    assert!(part(1).contains("a search in Qdrant still finds it"), "{out}");
    assert!(part(1).contains("5 rows have lost the edit of one program for good"), "{out}");
    assert!(part(2).contains("✓ 0 of 156 chunks differ; 0 edits lost."), "{out}");
    let both = "result  Read the gauge every six minutes.\n           Raise the alarm above 4.0 m.\n           \
        Call the duty officer.";
    assert!(part(3).contains(both), "{out}");
    assert!(part(4).contains("✓ 1,500 of 1,500 chunks are there: nothing is lost."), "{out}");
    assert!(part(5).contains("✓ 100 % of 1,657 chunks are equal in all stores"), "{out}");
    assert!(!out.contains('\u{1b}'), "colours in a pipe:\n{out}");
    let long: Vec<&str> = out.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn the_result_of_the_demo_is_one_json_document() {
    let dir = environment();
    let (code, out, err) = run(dir.path(), &["demo", "--json", "--keep", "kept"]);
    assert_eq!(code, 0, "{err}");
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&result["differing_by_hand"], &result["edits_lost_by_hand"]), (&BY_HAND.into(), &5.into()), "{result}");
    assert_eq!(result["verification"]["consistent"], true, "{result}");
    assert!(err.contains("1. By hand"), "the story goes to standard error:\n{err}");
    // The stores that were written by hand are real ones: `verify` finds the same in them.
    let (code, out, _) = run(dir.path(), &["--config", "kept/by-hand/chunk-sync.toml", "verify", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let found = report["differences"].as_array().unwrap().iter().map(|found| found["id"].as_str().unwrap());
    assert_eq!((code, found.collect::<BTreeSet<_>>().len() as u64), (1, BY_HAND), "{report}");
}

#[test]
fn colours_are_forced_and_refused_by_variable() {
    let dir = environment();
    let demo = |variables: &[(&str, &str)]| {
        let output = program(dir.path(), &["demo"]).envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(demo(&[("CLICOLOR_FORCE", "1")]).contains("\u{1b}[31m✗ 11 of 158 chunks"));
    assert!(!demo(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
}

#[test]
fn bad_lines_are_reported_and_good_lines_published() {
    let dir = environment();
    let mut input = lines(6);
    input[1] = "no json".to_owned();
    input[3] = input[3].replacen("\"chunk_type\":", "\"chunk_tipe\":", 1);
    // Only capture publishes as `postgres`.
    input[4] = format!(
        r#"{{"event_id": "{}", "type": "update", "source": "claude", "writer": "postgres", "targets": ["qdrant"], {}, {}}}"#,
        Uuid::new_v4(),
        r#""timestamp": "2026-02-03T04:05:06Z""#,
        format_args!("\"chunk\": {}", input[4])
    );
    std::fs::write(dir.path().join("in.jsonl"), input.join("\n")).unwrap();
    let (code, out, err) = run(dir.path(), &["publish", "in.jsonl"]);
    assert_eq!((code, out.as_str()), (1, "published 3 events from in.jsonl, refused 3 lines\n"), "{err}");
    let refusals: Vec<&str> = err.lines().collect();
    assert!(refusals[0].starts_with("in.jsonl:2: event: "), "{err}");
    assert!(refusals[1].starts_with("in.jsonl:4: chunk.chunk_tipe: unknown field"), "{err}");
    assert!(refusals[2].starts_with("in.jsonl:5: writer: "), "{err}");
    fine(dir.path(), &["run", "--drain"]);
    assert_eq!(verified(dir.path())["chunks"], 3);
}

#[test]
fn a_service_that_is_killed_repeatedly_loses_nothing() {
    let dir = environment();
    std::fs::write(dir.path().join("in.jsonl"), lines(1200).join("\n")).unwrap();
    fine(dir.path(), &["publish", "in.jsonl"]);
    let wal = dir.path().join("data/wal");
    let mut killed = 0;
    while killed < 3 {
        let before = size(&wal);
        let mut child = program(dir.path(), &["run", "--drain"]).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while size(&wal) < before + 1_000_000 {
            assert!(began.elapsed() < Duration::from_secs(120), "the service logs nothing");
            assert!(child.try_wait().unwrap().is_none(), "the service ended before kill {}", killed + 1);
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    fine(dir.path(), &["run", "--drain"]);
    let report = verified(dir.path());
    assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &1200.into()), "{report}");
    for store in ["postgres", "qdrant", "neo4j"] {
        assert_eq!(report["stores"][store]["count"], 1200, "{report}");
    }
}

#[test]
fn damage_done_to_the_file_by_sql_is_named_and_repaired() {
    let dir = environment();
    std::fs::write(dir.path().join("in.jsonl"), lines(40).join("\n")).unwrap();
    fine(dir.path(), &["publish", "in.jsonl"]);
    fine(dir.path(), &["run", "--drain"]);
    let expected = damage(&Connection::open(dir.path().join("data/chunk-sync.db")).unwrap());
    let (code, out, err) = run(dir.path(), &["verify", "--json"]);
    assert_eq!(code, 1, "{out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let found = report["differences"].as_array().unwrap().iter().map(|difference| {
        let fields: Vec<String> = difference["fields"].as_array().unwrap().iter().map(word).collect();
        let (id, store, kind) = (&difference["id"], &difference["store"], &difference["kind"]);
        format!("{} {} {} {}", word(id), word(store), word(kind), fields.join(" "))
    });
    assert_eq!(found.collect::<BTreeSet<String>>(), expected);
    fine(dir.path(), &["verify", "--repair"]);
    let report = verified(dir.path());
    assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &40.into()), "{report}");
}

/// Damages the file, each statement another chunk. Returns what `verify` must find: id, store, kind and fields.
fn damage(file: &Connection) -> BTreeSet<String> {
    let mut ids = file.prepare("SELECT id FROM vectors WHERE name = 'dense_gte' ORDER BY id").unwrap();
    let ids: Vec<Uuid> = ids.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let node = ["graph_mentions WHERE chunk", "graph_relations WHERE chunk", "graph_chunks WHERE id"];
    let point = ["vectors WHERE id", "points WHERE id"];
    let text = "$.content', 'a text written by SQL'";
    let deletes = |of: &[&str]| of.iter().map(|what| format!("DELETE FROM {what} = ?1")).collect::<Vec<_>>();
    let kinds = [
        (deletes(&node), vec!["neo4j missing "]),
        (deletes(&point), vec!["qdrant missing "]),
        (vec!["UPDATE graph_chunks SET chunk_type = 'poem' WHERE id = ?1".into()], vec!["neo4j different chunk_type"]),
        (
            vec!["UPDATE vectors SET vector = zeroblob(length(vector)) WHERE id = ?1 AND name = 'dense_gte'".into()],
            vec!["qdrant different dense_gte"],
        ),
        (
            vec![format!("UPDATE points SET payload = json_set(payload, '{text}) WHERE id = ?1")],
            vec!["qdrant different content"],
        ),
        (
            vec![format!("UPDATE rows SET chunk = json_set(chunk, '{text}) WHERE id = ?1")],
            vec!["postgres different row", "qdrant different content", "neo4j different content_hash"],
        ),
    ];
    let mut expected = BTreeSet::new();
    for (id, (statements, found)) in ids.iter().zip(kinds) {
        let changed = statements.iter().map(|statement| file.execute(statement, [id]).unwrap()).sum::<usize>();
        assert!(changed > 0, "no row was changed for {found:?}");
        expected.extend(found.iter().map(|found| format!("{id} {found}")));
    }
    expected
}

#[test]
fn wrong_usage_and_wrong_configuration_exit_with_2() {
    let dir = environment();
    assert_eq!(run(dir.path(), &["publish", "not-there.jsonl"]).0, 2);
    assert_eq!(run(dir.path(), &["fly"]).0, 2);
    std::fs::write(dir.path().join("chunk-sync.toml"), "worker.batsh = 3\n").unwrap();
    let (code, _, err) = run(dir.path(), &["verify"]);
    assert_eq!(code, 2);
    assert!(err.contains("worker.batsh") && err.contains("worker.batch"), "{err}");
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
