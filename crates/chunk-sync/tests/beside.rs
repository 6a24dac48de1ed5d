//! Commands that run beside a service on the embedded file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chunk_sync_samples::generate::Generator;
use serde_json::Value;
use tempfile::TempDir;

/// A temporary directory that contains a configuration.
fn environment() -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = "embedded.dir = 'data'\nhttp.listen = '127.0.0.1:0'\nlog.level = 'warn'\nscrub.enabled = false\n";
    std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
    dir
}

fn program(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
    command.current_dir(dir).args(arguments).stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(dir, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs the program with --json, asserts exit code 0, and returns the result.
fn fine(dir: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = run(dir, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// A running service, killed when it is dropped.
struct Service(Child);

impl Service {
    /// Starts the service, and waits until it has locked the directory.
    fn start(dir: &Path) -> Self {
        let service = Self(program(dir, &["run"]).stdout(Stdio::null()).spawn().unwrap());
        let held = dir.join("data/LOCK");
        let process = format!("process {}, `chunk-sync run`", service.0.id());
        within("the service has locked the directory", || {
            std::fs::read_to_string(&held).is_ok_and(|holder| holder == process)
        });
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn settled(dir: &Path) {
    within("nothing waits", || {
        let status = fine(dir, &["status"]);
        status["unread"] == 0 && status["pending"] == 0
    });
}

fn publish(dir: &Path, count: usize) {
    let lines: Vec<String> = Generator::new(21).take(count).map(|chunk| chunk.to_string()).collect();
    std::fs::write(dir.join("in.jsonl"), lines.join("\n")).unwrap();
    assert_eq!(fine(dir, &["publish", "in.jsonl"])["published"], count);
}

#[test]
fn commands_run_beside_a_service_and_a_second_service_is_rejected_with_the_name_of_the_first() {
    let environment = environment();
    let dir = environment.path();
    let service = Service::start(dir);
    let (code, _, err) = run(dir, &["run"]);
    let named = format!("is locked by process {}, `chunk-sync run`", service.0.id());
    assert!(code == Some(3) && err.contains(&named), "{code:?} {err}");
    publish(dir, 40);
    settled(dir);
    let report = fine(dir, &["verify"]);
    assert_eq!((&report["chunks"], &report["consistent"]), (&40.into(), &true.into()), "{report}");
    // Another program deletes points; the running service carries out the repair.
    let file = rusqlite::Connection::open(dir.join("data/chunk-sync.db")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(file.execute("DELETE FROM points WHERE id IN (SELECT id FROM points LIMIT 3)", []).unwrap(), 3);
    drop(file);
    let repaired = fine(dir, &["verify", "--repair"]);
    assert_eq!((&repaired["repair"]["complete"], &repaired["repair"]["repaired"]), (&true.into(), &3.into()));
    assert_eq!(fine(dir, &["backfill"])["rows"], 40);
    assert_eq!(fine(dir, &["dead", "list"])["count"].as_u64().unwrap_or_default(), 0);
    fine(dir, &["conflicts", "list"]);
    let (_, findings, _) = run(dir, &["doctor", "--json"]);
    let findings: Value = serde_json::from_str(&findings).unwrap();
    let set = findings["findings"].as_array().unwrap().iter().find(|finding| finding["subject"] == "set").unwrap();
    assert!(set["text"].as_str().unwrap().contains("qdrant (embedded), neo4j (embedded), version 1"), "{set}");
}

#[test]
fn events_published_before_a_kill_are_processed_by_the_next_service() {
    let environment = environment();
    let dir = environment.path();
    let mut service = Service::start(dir);
    publish(dir, 300);
    service.0.kill().unwrap();
    service.0.wait().unwrap();
    let (code, _, err) = run(dir, &["run", "--drain"]);
    assert_eq!(code, Some(0), "{err}");
    let report = fine(dir, &["verify"]);
    assert_eq!((&report["chunks"], &report["consistency"]), (&300.into(), &100.0.into()), "{report}");
}

#[test]
fn only_their_owner_can_read_the_files() {
    let environment = environment();
    let dir = environment.path();
    publish(dir, 20);
    let _service = Service::start(dir);
    settled(dir);
    let mut directories = vec![dir.join("data")];
    while let Some(directory) = directories.pop() {
        for path in [directory.clone()].into_iter().chain(entries(&directory)) {
            let metadata = std::fs::metadata(&path).unwrap();
            let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
            if metadata.is_dir() && path != directory {
                directories.push(path);
            }
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path())
}

#[test]
fn read_only_commands_create_nothing() {
    let environment = environment();
    let dir = environment.path();
    for command in [&["status"][..], &["verify"], &["backfill"], &["conflicts", "list"], &["dead", "list"]] {
        let (code, _, err) = run(dir, command);
        assert!(code == Some(2) && err.contains("data/chunk-sync.db does not exist"), "{command:?}: {code:?} {err}");
        assert!(!dir.join("data").exists(), "{command:?} created it");
    }
    run(dir, &["doctor"]);
    assert!(!dir.join("data").exists());
    let (code, _, err) = run(dir, &["init", "--without", "neo4j"]);
    assert!(code == Some(2) && err.contains("no embedded store can be removed"), "{err}");
    assert_eq!(fine(dir, &["init"])["installation"]["version"], 1);
    assert_eq!(fine(dir, &["status"])["chunks"]["qdrant"], 0);
}

/// The tables of the file, and the files of the log, that hold the text. Free pages of the file may hold it as well, which
/// the receipt states.
fn places(dir: &Path, text: &str) -> Vec<String> {
    let file = rusqlite::Connection::open(dir.join("data/chunk-sync.db")).unwrap();
    let mut tables = file.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let holds = |value: rusqlite::types::ValueRef<'_>| match value {
        rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
        _ => false,
    };
    let mut places = Vec::new();
    for table in tables {
        let mut all = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = all.column_count();
        let mut rows = all.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            if (0..columns).any(|column| holds(row.get_ref(column).unwrap())) && !places.contains(&table) {
                places.push(table.clone());
            }
        }
    }
    for line in std::fs::read_dir(dir.join("data/wal")).into_iter().flatten() {
        let log = std::fs::read(line.unwrap().path()).unwrap();
        if log.windows(text.len()).any(|window| window == text.as_bytes()) && !places.contains(&"wal".to_owned()) {
            places.push("wal".to_owned());
        }
    }
    places
}

fn publish_lines(dir: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(dir.join("in.jsonl"), lines.join("\n")).unwrap();
    assert_eq!(fine(dir, &["publish", "in.jsonl"])["published"], lines.len());
    settled(dir);
}

/// Publishes a text by two writers, and its delete. Returns the id.
fn deleted_text(dir: &Path, text: &str) -> String {
    let mut chunk: Value = Generator::new(21).take(1).next().unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    chunk["id"] = id.clone().into();
    for (writer, number) in [("claude", "one"), ("cognee", "two"), ("claude", "three")] {
        chunk["system_origin"] = writer.into();
        chunk["content"] = format!("{number}: {text}").into();
        chunk["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
        publish_lines(dir, std::slice::from_ref(&chunk));
    }
    let delete = serde_json::json!({
        "event_id": uuid::Uuid::new_v4(), "type": "delete", "source": "claude", "chunk": { "id": id },
        "targets": ["postgres", "qdrant", "neo4j"], "timestamp": jiff::Timestamp::now().to_string(),
    });
    publish_lines(dir, &[delete]);
    id
}

#[test]
fn a_deleted_text_is_erased_from_the_embedded_file_beside_a_service_and_without_one() {
    const SECRET: &str = "SECRET-4711";
    let environment = environment();
    let dir = environment.path();
    for beside in [true, false] {
        let service = Service::start(dir);
        let id = deleted_text(dir, SECRET);
        let before = places(dir, SECRET);
        for place in ["records", "conflicts"] {
            assert!(before.iter().any(|found| found == place), "{place} does not have the text: {before:?}");
        }
        let service = beside.then_some(service);
        let receipt = fine(dir, &["erase", &id]);
        assert_eq!(receipt["chunks"][0]["refused"], Value::Null, "{receipt}");
        assert_eq!(places(dir, SECRET), Vec::<String>::new(), "{receipt}");
        drop(service);
    }
}
