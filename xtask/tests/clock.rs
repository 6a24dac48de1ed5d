//! Engine, model and log have one clock: `crates/engine/src/runtime/clock.rs`. Everything else is given the time.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Where the machine's clock is read.
const CLOCK: &str = "crates/engine/src/runtime/clock.rs";

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_clock_is_read_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for part in ["crates/engine/src", "crates/model/src", "crates/wal/src"] {
        sources(&root.join(part), &mut files);
    }
    let reads = |path: &&PathBuf| {
        let source = std::fs::read_to_string(path).unwrap();
        source.contains("Timestamp::now") || source.contains("SystemTime::now")
    };
    let reading: Vec<&PathBuf> = files.iter().filter(reads).collect();
    assert_eq!(reading, [&root.join(CLOCK)], "take the time from `ports.clock`, or as an argument");
}
