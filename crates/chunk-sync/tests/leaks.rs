//! What must not leak: control characters from data into what the program prints, and texts, vectors and secrets into its
//! log at the most detailed level. Runs the program on embedded stores, as a user does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_model::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Clears the screen and sets a colour (ESC and C1), forges a line, turns the direction of the text, and hides a word.
const PLANTED: &str = "\u{1b}[2J\u{9b}31mEVIL\r\nforged: a line\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{7f}";

/// What no log may contain.
const TEXT: &str = "the-planted-text-of-a-chunk";
const TOKEN: &str = "the-planted-token-of-http";
const NUMBER: &str = "0.71875";

fn environment(more: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = format!(
        "embedded.dir = 'data'\nhttp.listen = '127.0.0.1:0'\nhttp.token = '{TOKEN}'\nscrub.enabled = false\n\
         worker.hold = false\n{more}"
    );
    std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
    dir
}

/// What the program printed.
struct Printed {
    arguments: Vec<String>,
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(dir: &Path, arguments: &[&str]) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
    let Output { status, stdout, stderr } =
        command.current_dir(dir).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Printed { arguments, code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Printed {
    /// Asserts that nothing printed steers a terminal, and that no line was forged on standard error.
    fn is_clean(&self) -> &Self {
        for text in [&self.out, &self.err] {
            let steering = |c: char| {
                (c.is_control() && !matches!(c, '\n' | '\t'))
                    || PLANTED.chars().any(|planted| planted == c && !c.is_ascii())
            };
            assert!(!text.contains(steering), "{:?} {:?}: {text:?}", self.arguments, self.code);
        }
        assert!(!self.err.lines().any(|line| line.starts_with("forged")), "{:?}: {}", self.arguments, self.err);
        self
    }

    fn contains(&self, text: &str) -> &Self {
        let shown = format!("{}{}", self.out, self.err);
        assert!(shown.contains(text), "{:?} {:?}: {shown}", self.arguments, self.code);
        self
    }
}

/// A valid chunk with the planted text wherever a chunk has text.
fn chunk() -> Value {
    let mut chunk = chunk_sync_samples::samples().remove(0);
    chunk["content"] = format!("{PLANTED} {TEXT}").into();
    chunk["summary"] = PLANTED.into();
    chunk["metadata"][format!("key{PLANTED}")] = format!("value{PLANTED}").into();
    chunk["graph"] = json!({"entities": [{
        "id": format!("entity{PLANTED}"), "type": "concept", "name": format!("name{PLANTED}"), "confidence": 0.5,
        "source_positions": [],
    }]});
    chunk
}

fn event(source: &str, chunk: &Value, minute: u32) -> Value {
    let timestamp = format!("2026-11-01T10:{minute:02}:00Z");
    let mut chunk = chunk.clone();
    chunk["metadata"]["updated_at"] = timestamp.as_str().into();
    json!({
        "event_id": uuid::Uuid::new_v4(), "type": "update", "source": source,
        "targets": ["postgres", "qdrant", "neo4j"], "timestamp": timestamp, "chunk": chunk,
    })
}

/// Publishes lines, good and bad ones, and adds an entry that only another client of the bus would add.
fn publish(dir: &Path, events: &[Value]) {
    let bad = [
        json!({ (format!("field{PLANTED}")): 1 }).to_string(),
        json!({"id": PLANTED, "content": PLANTED}).to_string(),
        format!("not json {PLANTED}").replace(['\r', '\n'], ""),
    ];
    let lines: Vec<String> = events.iter().map(Value::to_string).chain(bad).collect();
    std::fs::write(dir.join("in.jsonl"), lines.join("\n")).unwrap();
    run(dir, &["publish", "in.jsonl"]).is_clean().contains("refused 3 lines");
    run(dir, &["publish", "in.jsonl", "--json"]).is_clean();
    let text = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let entry = vec![
        text("event_id", PLANTED),
        text("type", PLANTED),
        text("source", "claude"),
        text("targets", &json!([PLANTED]).to_string()),
        text("chunk", &json!({ (format!("key{PLANTED}")): 1 }).to_string()),
        text(&format!("name{PLANTED}"), PLANTED),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stores = Embedded::open(&dir.join("data"), "test", Arc::new(Limits::default()), MAX_BACKLOG).unwrap();
    runtime.block_on(stores.bus.add(entry)).unwrap();
}

#[test]
fn nothing_that_steers_a_terminal_is_printed() {
    let environment = environment("log.level = 'trace'\n");
    let dir = environment.path();
    let (first, mut second) = (chunk(), chunk());
    second["content"] = format!("another {PLANTED}").into();
    // Both writers know the first content, then each changes it: a conflict.
    let third = {
        let mut third = first.clone();
        third["content"] = format!("a third {PLANTED}").into();
        third
    };
    publish(
        dir,
        &[
            event("claude", &first, 1),
            event("cognee", &first, 2),
            event("claude", &second, 3),
            event("cognee", &third, 4),
        ],
    );
    run(dir, &["wal", "replay", "--dry-run"]).is_clean();
    let drained = run(dir, &["run", "--drain"]);
    assert_eq!(drained.is_clean().code, Some(0), "{}", drained.err);
    drained.contains("writing a dead letter");
    damage(dir);
    let letter = &json_of(dir, &["dead", "list"])["dead"][0]["id"].as_str().unwrap().to_owned();
    let commands: &[&[&str]] = &[
        &["verify"],
        &["verify", "--dry-run"],
        &["verify", "--plan", "plan.jsonl"],
        &["dead", "list"],
        &["dead", "show", letter],
        &["dead", "retry", letter],
        &["dead", "show", PLANTED],
        &["dead", "list", "--source", PLANTED],
        &["conflicts", "list"],
        &["conflicts", "show", "1"],
        &["conflicts", "revert", "1"],
        &["conflicts", "resolve", "1", "--take", PLANTED, "--again"],
        &["wal", "status"],
        &["wal", "check"],
        &["doctor"],
        &["status"],
        &["backfill"],
        &["config", "show"],
        &["config", "check", "--config", PLANTED],
        &["publish", PLANTED],
        &["verify", PLANTED],
        &[PLANTED],
        &["verify", "--repair"],
        &["dead", "drop", "--all", "--yes"],
    ];
    for command in commands {
        run(dir, command).is_clean();
        run(dir, &[command, &["--json"][..]].concat()).is_clean();
    }
    let shown = run(dir, &["conflicts", "show", "1"]);
    shown.contains("\\u{1b}[2J\\u{9b}31mEVIL\\u{d}");
    mode_is_private(&dir.join("plan.jsonl"));
}

/// The result of a command as JSON, which must mean what the data means.
fn json_of(dir: &Path, arguments: &[&str]) -> Value {
    let printed = run(dir, &[arguments, &["--json"][..]].concat());
    serde_json::from_str(&printed.is_clean().out).unwrap()
}

/// Changes what a store holds of the planted key, so that `verify` names it.
fn damage(dir: &Path) {
    let file = rusqlite::Connection::open(dir.join("data/chunk-sync.db")).unwrap();
    let payload: String = file.query_row("SELECT payload FROM points LIMIT 1", [], |row| row.get(0)).unwrap();
    let mut payload: Value = serde_json::from_str(&payload).unwrap();
    payload[format!("field{PLANTED}")] = PLANTED.into();
    payload["metadata"][format!("key{PLANTED}")] = "other".into();
    file.execute("UPDATE points SET payload = ?1", [payload.to_string()]).unwrap();
}

fn mode_is_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
}

#[test]
fn the_most_detailed_log_contains_neither_texts_nor_vectors_nor_secrets() {
    for format in ["text", "json"] {
        let environment = environment(&format!("log.level = 'trace'\nlog.format = '{format}'\n"));
        let dir = environment.path();
        let mut chunk = chunk();
        chunk["embeddings"]["dense"]["vector"][0] = NUMBER.parse::<f64>().unwrap().into();
        publish(dir, &[event("claude", &chunk, 1)]);
        let drained = run(dir, &["run", "--drain"]);
        assert_eq!(drained.is_clean().code, Some(0), "{}", drained.err);
        for planted in [TEXT, TOKEN, NUMBER] {
            assert!(!drained.err.contains(planted), "{planted}: {}", drained.err);
        }
    }
}
