//! Builds the chunk that shows, from the values at hand.

use crate::chunk::{Chunk, Embeddings, Graph, State};
use crate::parse::{
    CONFLICT_DETECTED, CONFLICT_RESOLVED_AT, CONFLICT_TIMESTAMP, CONFLICTING_VERSION, PREVIOUS_VERSION,
    RESOLUTION_STRATEGY,
};
use crate::record::Said;
use crate::{Origin, Part, Record, Time};

use super::show::{Rival, Shown, ShownPart};
use super::values::{Values, View};

/// The state that shows `shown`; `None` where the chunk is gone.
///
/// A value that is nowhere any more (somebody wrote over it in the row, and the record had none) leaves the part as it is
/// held: what is there is never taken away for want of something better.
pub(super) fn assemble(
    record: &Record,
    shown: &Shown,
    held: Option<&View<'_>>,
    view: Option<&View<'_>>,
    values: &Values<'_>,
) -> Option<State> {
    let base = held.or(view).filter(|_| shown.exists)?;
    let mut chunk = blank(base.chunk);
    for (part, value) in &shown.parts {
        let found = put(&mut chunk, values, part, value);
        if let (None, Some((.., held))) = (found, base.parts.iter().find(|(held, ..)| held == part)) {
            chunk.put(part, *held);
        }
    }
    put_alternative(&mut chunk, shown, values);
    say(record, &mut chunk);
    if let Some(rival) = &shown.rival {
        mark(&mut chunk, rival);
    }
    Some(State { chunk, embedding_stale: shown.stale })
}

/// A chunk without any of the parts that can be absent.
fn blank(chunk: &Chunk) -> Chunk {
    let mut blank = Chunk { embeddings: Embeddings::default(), graph: Graph::default(), ..chunk.clone() };
    blank.summary = None;
    blank.code_metadata = None;
    blank.metadata.extra.clear();
    blank
}

/// Puts a value in its place, wherever it is to be had; `None` where it is nowhere.
fn put(chunk: &mut Chunk, values: &Values<'_>, part: &Part, shown: &ShownPart) -> Option<()> {
    if let Some(text) = &shown.merged {
        chunk.content.clone_from(text);
    } else if let Some(value) = values.get(part, shown.hash) {
        chunk.put(part, value);
    } else {
        chunk.put_json(part, values.kept(part, shown.hash)?).ok()?;
    }
    Some(())
}

/// One alternative has a place in a chunk: that of the first model that has one.
fn put_alternative(chunk: &mut Chunk, shown: &Shown, values: &Values<'_>) {
    let Some((part, other)) = shown.alternative() else {
        return;
    };
    let shown_first = chunk.embeddings.dense.len();
    if put(chunk, values, part, other).is_some() {
        let embeddings = &mut chunk.embeddings;
        embeddings.dense_alternative = embeddings.dense.split_off(shown_first).pop();
        embeddings.conflict_resolution = Some("keep_both".into());
        embeddings.primary_source = shown.parts.get(part).map(|first| first.version.writer.to_string());
        embeddings.alternative_source = Some(other.version.writer.to_string());
    }
}

/// The fields that are no parts: the smallest `created_at`, the largest `updated_at`, the newest of the others.
fn say(record: &Record, chunk: &mut Chunk) {
    let said: Vec<&Said> = record.writers.values().map(|history| &history.said).collect();
    let metadata = &mut chunk.metadata;
    metadata.created_at = said.iter().filter_map(|s| s.created_at).min().unwrap_or(metadata.created_at);
    metadata.updated_at = said.iter().filter_map(|s| s.updated_at).max().unwrap_or(metadata.updated_at);
    let newest =
        |pick: fn(&Said) -> Option<(Time, Time)>| said.iter().filter_map(|s| pick(s)).max().map(|(_, value)| value);
    metadata.indexed_at = newest(|s| s.indexed_at);
    metadata.cognified_at = newest(|s| s.cognified_at);
    let millis = said.iter().filter_map(|s| s.processing_time_ms);
    metadata.processing_time_ms = millis.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, value)| value);
    let mut origins: Vec<Origin> = said.iter().flat_map(|s| s.origins.iter().copied()).collect();
    origins.sort_unstable();
    origins.dedup();
    chunk.system_origin = match origins.as_slice() {
        [] => chunk.system_origin,
        [one] => *one,
        _ => Origin::Hybrid,
    };
}

/// Says of a content that shows that it was in conflict: that there was one, with what and when; and, once it is decided,
/// how.
///
/// Which of the two came to the service first is no part of the state: the same settings show the same marks in whatever
/// order they arrived. So a conflict that is decided has both kinds of marks, whichever side was the newer.
fn mark(chunk: &mut Chunk, rival: &Rival) {
    let mut put = |key: &str, value: serde_json::Value| drop(chunk.metadata.extra.insert(key.to_owned(), value));
    let met = rival.met.to_string();
    put(CONFLICT_DETECTED, true.into());
    put(CONFLICTING_VERSION, rival.sha256.as_str().into());
    put(CONFLICT_TIMESTAMP, met.as_str().into());
    if let Some(strategy) = rival.strategy {
        put(PREVIOUS_VERSION, rival.sha256.as_str().into());
        put(CONFLICT_RESOLVED_AT, met.as_str().into());
        put(RESOLUTION_STRATEGY, strategy.to_string().into());
    }
}
