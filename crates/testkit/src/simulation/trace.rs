//! Prints the course of one chunk: `CHUNK_SYNC_CHUNK` is its id, as a failed seed names it.
#![allow(clippy::print_stderr, reason = "prints what was asked for")]

use std::sync::LazyLock;

use chunk_sync_engine::ports::{Commit, StoredDocument, Write};
use chunk_sync_model::{Event, SyncVersion, Target};
use tokio::time::Instant;
use uuid::Uuid;

static TRACED: LazyLock<Option<Uuid>> =
    LazyLock::new(|| std::env::var("CHUNK_SYNC_CHUNK").ok().and_then(|id| id.parse().ok()));

/// Prints what happened to the chunk, if it is the one whose course is printed.
pub(super) fn trace(id: Uuid, what: impl FnOnce() -> String) {
    if *TRACED == Some(id) {
        eprintln!("{:?} {}", Instant::now(), what());
    }
}

/// Prints what happened to a process.
pub(super) fn process(what: &str) {
    TRACED.iter().for_each(|id| trace(*id, || what.to_owned()));
}

pub(super) fn published(event: &Event) {
    trace(event.chunk_id(), || {
        let Event { kind, writer, timestamp, set, position, .. } = event;
        format!("published: {kind:?} by {writer} at {}, sets {set:?}, {position:?}", timestamp.micros())
    });
}

pub(super) fn merged(commit: &Commit) {
    trace(commit.id, || {
        let Commit { record, state, row_changed, outbox, absence, .. } = commit;
        let (version, lives, row) = (record.version, record.lives(), state.is_some());
        format!("merged: {version}, lives {lives}, row {row} changed {row_changed}, outbox {outbox:?}, {absence:?}")
    });
}

pub(super) fn wrote(
    target: Target,
    write: &Write,
    (before, after): (Option<&StoredDocument>, Option<&StoredDocument>),
) {
    trace(write.id, || {
        let version = |seen: Option<&StoredDocument>| seen.map(|seen| seen.version);
        let (before, after): (Option<SyncVersion>, Option<SyncVersion>) = (version(before), version(after));
        format!("{target}: {}, lives {}; from {before:?} to {after:?}", write.version, write.state.is_some())
    });
}
