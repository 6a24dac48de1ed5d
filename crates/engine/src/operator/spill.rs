//! Bounds the dead letters on the bus, in number and in bytes: the oldest ones move into a file beside the log, so that
//! broken publishers cannot fill the server.
//!
//! `dead_YYYYMMDD.jsonl`, one JSON object per letter: `id`, and `fields` with the fields of the letter as text. The file
//! is synced before a letter is dropped: after a crash in between, the letter is in both places. Of a letter above the limit
//! of bytes the beginning of each long value moves: that is all that readers get of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_wal::disk::Disk;
use chunk_sync_wal::drop_lines;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::pipeline::log::run_blocking;
use crate::ports::{Bus, Fault, FaultClass, Letter, chunk_of};

/// A number of dead letters and of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// The letters.
    pub letters: u64,
    /// The bytes that they have where they are stored.
    pub bytes: u64,
}

/// The most dead letters that stay on the bus.
pub const MOST: Most = Most { letters: 50_000, bytes: 512 << 20 };

/// The beginning of the names of the files.
const PREFIX: &str = "dead_";

/// Letters moved at once: too many, or too long ones.
const PAGE: usize = 100;
const LONG_PAGE: usize = 10;

/// Moves the oldest letters into the file until the bus has at most `most`, or about so; returns their number.
///
/// # Errors
/// The fault of the bus; [`Unavailable`](FaultClass::Unavailable) if the file cannot be written.
pub async fn spill(bus: &dyn Bus, disk: &Arc<dyn Disk>, most: Most, now: Timestamp) -> Result<u64, Fault> {
    let mut excess = bus.depth().await?.dead.saturating_sub(most.letters);
    let mut moved = 0;
    loop {
        let page = match usize::try_from(excess).unwrap_or(PAGE) {
            0 if bus.dead_bytes().await?.is_none_or(|bytes| bytes <= most.bytes) => break,
            0 => LONG_PAGE,
            excess => PAGE.min(excess),
        };
        let letters = bus.dead(None, page).await?;
        if letters.is_empty() {
            break;
        }
        let (lines, disk) = (lines(&letters), Arc::clone(disk));
        let name = format!("{PREFIX}{}.jsonl", now.strftime("%Y%m%d"));
        let written = run_blocking(disk.blocks(), move || append(&*disk, &name, &lines)).await;
        written.map_err(|error| Fault::new(FaultClass::Unavailable, "file of dead letters", error))?;
        for letter in &letters {
            bus.drop_dead(letter.id).await?;
        }
        moved += letters.len() as u64;
        excess = excess.saturating_sub(letters.len() as u64);
    }
    if moved > 0 {
        warn!(
            moved,
            letters = most.letters,
            bytes = most.bytes,
            "above a limit: moved the oldest dead letters into a file beside the log; correct the publisher"
        );
    }
    Ok(moved)
}

fn lines(letters: &[Letter]) -> Vec<u8> {
    let mut lines = String::new();
    for letter in letters {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields: Map<String, Value> =
            letter.fields.iter().map(|(name, value)| (text(name), text(value).into())).collect();
        lines.push_str(&json!({ "id": letter.id.to_string(), "fields": fields }).to_string());
        lines.push('\n');
    }
    lines.into_bytes()
}

/// Removes the letters of these chunks from the files; returns their number.
///
/// # Errors
/// [`Unavailable`](FaultClass::Unavailable) if a file cannot be read or written; then some may have been removed.
pub fn erase(disk: &dyn Disk, ids: &[Uuid]) -> Result<u64, Fault> {
    let fault = |error| Fault::new(FaultClass::Unavailable, "file of dead letters", error);
    let (mut removed, files) = (0, disk.list().map_err(fault)?);
    for (name, _) in files.iter().filter(|(name, _)| name.starts_with(PREFIX) && name.ends_with(".jsonl")) {
        removed += drop_lines(disk, name, &|line| is_of(line, ids)).map_err(fault)?;
    }
    Ok(removed)
}

/// Whether the line is a letter of one of these chunks.
fn is_of(line: &[u8], ids: &[Uuid]) -> bool {
    #[derive(Deserialize)]
    struct Spilled {
        fields: BTreeMap<String, String>,
    }
    let Ok(letter) = serde_json::from_slice::<Spilled>(line) else { return false };
    let chunk = letter.fields.get("chunk").map_or("", String::as_str);
    ids.iter().any(|id| chunk.contains(&id.to_string())) && {
        let fields = [(b"chunk".to_vec(), chunk.as_bytes().to_vec())];
        chunk_of(&fields).is_some_and(|id| ids.contains(&id))
    }
}

fn append(disk: &dyn Disk, name: &str, lines: &[u8]) -> std::io::Result<()> {
    let is_there = disk.list()?.iter().any(|(file, _)| file == name);
    let mut file = if is_there { disk.open(name)? } else { disk.create(name)? };
    file.append(lines)?;
    file.sync()?;
    if is_there { Ok(()) } else { disk.sync_dir() }
}
