//! Two writers edit the same chunks independently: in the end all stores are equal, every conflict is recorded, and nearly
//! all are resolved without an operator. `CHUNK_SYNC_EDITS` sets the number of edits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use chunk_sync_model::merge::{Change, Outcome, Strategies, merge};
use chunk_sync_model::{EmbeddingModel, Event, Limits, Record, State};
use chunk_sync_samples::generate::ConcurrentEdits;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// Numbers in a vector.
const SIZE: usize = 32;

/// Edits per publication: the embedded bus holds a bounded number of events.
const ROUND: usize = 20_000;

/// Number of conflicts by chunk, part and outcome.
type Conflicts = BTreeMap<(Uuid, String, String), u64>;

#[test]
fn concurrent_edits_leave_equal_stores_and_a_record_of_every_conflict() {
    let edits = std::env::var("CHUNK_SYNC_EDITS").map_or(3_000, |edits| edits.parse().unwrap());
    let dir = environment();
    let mut drawn = ConcurrentEdits::new(11, (edits / 20).max(1), SIZE);
    let mut model = Model::default();
    let began = Instant::now();
    let mut left = edits;
    while left > 0 {
        let round = left.min(ROUND);
        let events: Vec<String> = (0..round).flat_map(|_| drawn.edit()).map(|event| event.to_string()).collect();
        events.iter().for_each(|event| model.take(event));
        std::fs::write(dir.path().join("in.jsonl"), events.join("\n")).unwrap();
        fine(dir.path(), &["publish", "in.jsonl"]);
        fine(dir.path(), &["run", "--drain"]);
        left -= round;
    }
    let seconds = began.elapsed().as_secs_f64();
    let report: Value = serde_json::from_str(&fine(dir.path(), &["verify", "--json"])).unwrap();
    assert_eq!(report["consistent"], true, "{report}");
    assert_eq!(report["chunks"], model.living(), "{report}");
    let recorded = recorded(dir.path());
    let (met, on_record): (u64, u64) = (model.conflicts.values().sum(), recorded.values().sum());
    let open: u64 = recorded.iter().filter(|((.., outcome), _)| outcome == "open").map(|(_, count)| count).sum();
    let automatic = 100.0 * (1.0 - open as f64 / on_record.max(1) as f64);
    eprintln!(
        "{edits} edits in {seconds:.0} s: {met} conflicts expected, {on_record} recorded, {automatic} % resolved automatically; \
         {} chunks, {} % consistent",
        report["chunks"], report["consistency"]
    );
    assert!(met > edits as u64 / 10, "too few conflicts: {met}");
    assert_eq!(recorded, model.conflicts);
    assert!(automatic > 99.0);
}

/// The expected result: the pure merge, applied to the events in order.
#[derive(Default)]
struct Model {
    chunks: BTreeMap<Uuid, (Option<Record>, Option<Arc<State>>)>,
    conflicts: Conflicts,
}

impl Model {
    fn take(&mut self, json: &str) {
        let event = Event::from_json(json, &limits()).unwrap();
        let (record, state) = self.chunks.entry(event.chunk_id()).or_default();
        let merged = merge(record.take(), state.take(), &Change::from(&event), &Strategies::default());
        (*record, *state) = (Some(merged.record), merged.state);
        for conflict in merged.conflicts {
            let name = (event.chunk_id(), conflict.part.to_string(), Outcome::as_str(conflict.outcome).to_owned());
            *self.conflicts.entry(name).or_default() += 1;
        }
    }

    fn living(&self) -> usize {
        self.chunks.values().filter(|(_, state)| state.is_some()).count()
    }
}

fn limits() -> Limits {
    let model = EmbeddingModel { model: "gte".into(), vector: "dense_gte".into(), size: SIZE };
    Limits { models: vec![model], ..Limits::default() }
}

/// The conflicts that the program lists, page by page.
fn recorded(dir: &Path) -> Conflicts {
    let mut conflicts = Conflicts::new();
    let mut below = u64::MAX >> 1;
    loop {
        let below_text = below.to_string();
        let page = fine(dir, &["conflicts", "list", "--json", "--limit", "10000", "--below", &below_text]);
        let page: Value = serde_json::from_str(&page).unwrap();
        for line in page["conflicts"].as_array().unwrap() {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            *conflicts.entry((text("chunk").parse().unwrap(), text("part"), text("outcome"))).or_default() += 1;
            below = line["id"].as_u64().unwrap();
        }
        if page["more"] == false {
            return conflicts;
        }
    }
}

fn environment() -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = format!(
        "embedded.dir = 'data'\nhttp.listen = '127.0.0.1:0'\nlog.level = 'warn'\n\
         [[embedding]]\nmodel = 'gte'\nvector = 'dense_gte'\nsize = {SIZE}\n"
    );
    std::fs::write(dir.path().join("chunk-sync.toml"), config).unwrap();
    dir
}

/// Runs the program, asserts exit code 0, and returns standard output.
fn fine(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chunk-sync"));
    let Output { status, stdout, stderr } =
        command.current_dir(dir).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
