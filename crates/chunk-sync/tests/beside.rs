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
