//! What the fuzz targets of `fuzz/` do with their input, as far as model and log are concerned, and the inputs that the
//! repository keeps. The connectors and the program have such functions of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunk_sync_model::{Event, Limits};
use chunk_sync_wal::disk::Disk;
use chunk_sync_wal::testing::{CrashDisk, sealed};
use chunk_sync_wal::{Options, Wal};

/// The inputs kept for a target, each with its path: those of `fuzz/corpus` in the order of their names.
///
/// # Panics
/// If there is none, or one cannot be read.
#[must_use]
pub fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs `target` on each kept input.
///
/// # Panics
/// If `target` does, with the path of the input.
pub fn replay(name: &str, target: impl Fn(&[u8])) {
    for (path, input) in corpus(name) {
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        assert!(survived.is_ok(), "{}", path.display());
    }
}

/// An event as JSON: what is accepted is written and accepted again, as the same event.
pub fn event(input: &[u8]) {
    let Ok(json) = std::str::from_utf8(input) else { return };
    let limits = Limits::default();
    let Ok(event) = Event::from_json(json, &limits) else { return };
    let written = event.to_json();
    // Base64 and the names of all fields make the written form longer than what was accepted.
    let limits =
        Limits { event_max_bytes: limits.event_max_bytes * 2, chunk_max_bytes: limits.chunk_max_bytes * 2, ..limits };
    let again = Event::from_json(&written, &limits).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again, event, "{written}");
    let fields: Vec<_> = event.to_fields().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let again = Event::from_fields(&fields, &limits).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_json(), written, "the fields of a stream entry");
}

/// The name of the one file of the log.
const FILE: &str = "wal_20261123_04.jsonl";

/// A file of the log. A line that begins with `!` gets the checksum that it lacks. What recovery returns and repairs is what
/// the next recovery returns, without further repairs.
pub fn log_reader(input: &[u8]) {
    let disk = CrashDisk::default();
    let mut content = Vec::with_capacity(input.len());
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let (line, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |line| (line, b"\n"));
        match line.strip_prefix(b"!") {
            Some(body) => content.extend(sealed(body)),
            None => content.extend(line),
        }
        content.extend(end);
    }
    let mut file = disk.create(FILE).unwrap();
    file.append(&content).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    let first = open(&disk);
    let second = open(&disk);
    assert_eq!(first.pending, second.pending);
    assert!(!second.is_damaged, "what was damaged is set aside once");
}

struct Opened {
    pending: Vec<chunk_sync_wal::Entry>,
    is_damaged: bool,
}

fn open(disk: &CrashDisk) -> Opened {
    let (_, recovery) = Wal::open_on(Arc::new(disk.clone()), Options::default()).unwrap();
    let is_damaged = recovery.torn.is_some() || !recovery.damaged.is_empty();
    Opened { pending: recovery.pending.map(Result::unwrap).collect(), is_damaged }
}
