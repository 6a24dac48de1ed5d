//! Erases operations: their content leaves the disk, their ids and ends stay. Only operations that have ended can be
//! erased, so nothing that a start would replay is lost.
//!
//! A file with such operations is rewritten beside itself, with `{"erased":true}` in place of each operation, and then
//! takes the place of the old one. What a crash does:
//!
//! | crash | on disk | the next start |
//! |---|---|---|
//! | while the new file is written | the old file, and a part of the new one | removes the new one ([`finish`]) |
//! | after the new file is synced, before the old one is removed | both | removes the new one; the operation must be erased again |
//! | after the old file is removed | the new file under its other name | gives it the name of the old one |
//!
//! So at each moment one of the two is complete. Damaged lines that were set aside are copied as they are: what they hold
//! cannot be read, and so cannot be found.

use std::collections::HashMap;
use std::io;

use crate::WalError;
use crate::disk::{Disk, DiskFile};
use crate::hour::Hour;
use crate::line::{Completion, Encoder, Outcome, Pending};
use crate::scan::{Lines, Raw};

/// The operation in place of an erased one.
const ERASED: &str = r#"{"erased":true}"#;

/// Bytes that are collected before they are written.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// Follows the name of a file that is being rewritten.
const SUFFIX: &str = ".erasing";

/// Finishes what a crash interrupted; called before the files are read.
pub(crate) fn finish(disk: &dyn Disk) -> io::Result<()> {
    let names: Vec<String> = disk.list()?.into_iter().map(|(name, _)| name).collect();
    for new in &names {
        let Some(old) = new.strip_suffix(SUFFIX) else { continue };
        if names.iter().any(|name| name == old) {
            disk.remove(new)?;
            disk.sync_dir()?;
        } else {
            disk.rename(new, old)?;
        }
    }
    Ok(())
}

/// Rewrites the file of `hour` without the operations that `erases` selects by id and content, and adds their ids to
/// `erased` (false for those that an earlier call erased); returns its new length. A file without such operations is left
/// as it is. Called for the oldest file first.
pub(crate) fn rewrite(
    disk: &dyn Disk,
    hour: Hour,
    erases: &dyn Fn(&str, &str) -> bool,
    erased: &mut HashMap<String, bool>,
) -> Result<Option<u64>, WalError> {
    let name = hour.file();
    rewrite_file(disk, &name, &mut |raw| replacement(raw, erases, erased)).map_err(WalError::disk("erase in", name))
}

/// What takes the place of a line, with its line end; `None` if the line stays.
fn replacement(
    raw: &Raw<'_>,
    erases: &dyn Fn(&str, &str) -> bool,
    erased: &mut HashMap<String, bool>,
) -> Option<Vec<u8>> {
    let line = raw.parse().ok()?;
    let mut encoder = Encoder::new(line.timestamp, 160);
    match line.operation {
        Some(operation) if erases(&line.operation_id, operation) => {
            let origin = line.origin.clone();
            let pending = Pending { operation_id: &line.operation_id, operation: ERASED, origin };
            encoder.pending(&pending).ok()?;
            erased.insert(line.operation_id.to_string(), true);
        }
        // A crash may have left its completion, in a later file, as it was.
        Some(ERASED) => {
            erased.entry(line.operation_id.to_string()).or_insert(false);
            return None;
        }
        // The error of a failed operation may quote it.
        None if line.error && erased.contains_key(&*line.operation_id) => {
            let outcome = Outcome::Failed { error: "erased" };
            encoder.completion(&Completion { operation_id: &line.operation_id, outcome }).ok()?;
        }
        _ => return None,
    }
    Some(encoder.into_bytes())
}

/// Rewrites a file of lines without those that `drops` selects; returns their number. A file without such lines is left
/// as it is. Of a line longer than [`MAX_LINE`](crate::MAX_LINE) `drops` gets the beginning; if it stays, all of it does.
///
/// # Errors
/// A file cannot be read, written or renamed. The next call, or the next opening of the log, finishes what was begun.
pub fn drop_lines(disk: &dyn Disk, name: &str, drops: &dyn Fn(&[u8]) -> bool) -> io::Result<u64> {
    finish(disk)?;
    let mut dropped = 0;
    let decide = |raw: &Raw<'_>| drops(raw.bytes()).then(Vec::new);
    rewrite_file(disk, name, &mut |raw| {
        let decided = decide(raw);
        dropped += u64::from(decided.is_some());
        decided
    })?;
    // The first pass ends at the first of them, the second one counts it again.
    Ok(dropped.saturating_sub(1))
}

/// Decides what takes the place of a line; `None` if it stays.
type Decide<'a> = dyn FnMut(&Raw<'_>) -> Option<Vec<u8>> + 'a;

/// Rewrites a file if a line of it changes; returns its new length. Memory is bounded: the first pass only looks for
/// such a line, the second one writes.
fn rewrite_file(disk: &dyn Disk, name: &str, decide: &mut Decide<'_>) -> io::Result<Option<u64>> {
    let file = disk.open(name)?;
    if !changes(&*file, decide)? {
        return Ok(None);
    }
    let new = format!("{name}{SUFFIX}");
    let mut to = disk.create(&new)?;
    let length = write_changed(&*file, &mut *to, decide)?;
    to.sync()?;
    disk.sync_dir()?;
    drop((file, to));
    disk.remove(name)?;
    disk.sync_dir()?;
    disk.rename(&new, name)?;
    Ok(Some(length))
}

fn changes(file: &dyn DiskFile, decide: &mut Decide<'_>) -> io::Result<bool> {
    let mut lines = Lines::new(file);
    while let Some(raw) = lines.next()? {
        if decide(&raw).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_changed(from: &dyn DiskFile, to: &mut dyn DiskFile, decide: &mut Decide<'_>) -> io::Result<u64> {
    let (mut lines, mut collected, mut length) = (Lines::new(from), Vec::new(), 0);
    while let Some(raw) = lines.next()? {
        match decide(&raw) {
            Some(replacement) => collected.extend(replacement),
            None if raw.is_whole() => {
                collected.extend_from_slice(raw.bytes());
                collected.extend(raw.ended.then_some(b'\n'));
            }
            None => {
                length += flush(to, &mut collected)?;
                length += copy(from, to, raw.offset, raw.length + u64::from(raw.ended))?;
            }
        }
        if collected.len() >= WRITTEN_AT_ONCE {
            length += flush(to, &mut collected)?;
        }
    }
    Ok(length + flush(to, &mut collected)?)
}

fn flush(to: &mut dyn DiskFile, collected: &mut Vec<u8>) -> io::Result<u64> {
    to.append(collected)?;
    let length = collected.len() as u64;
    collected.clear();
    Ok(length)
}

/// Copies a line that is too long to be held.
fn copy(from: &dyn DiskFile, to: &mut dyn DiskFile, mut offset: u64, length: u64) -> io::Result<u64> {
    let (end, mut buffer) = (offset + length, vec![0; 64 << 10]);
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = from.read_at(offset, &mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.append(&buffer[..read])?;
        offset += read as u64;
    }
    Ok(length)
}
