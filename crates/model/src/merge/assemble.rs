//! Builds the shown chunk from the shown values.

use crate::chunk::{Chunk, Embeddings, Graph, State};
use crate::parse::{
    CONFLICT_DETECTED, CONFLICT_RESOLVED_AT, CONFLICT_TIMESTAMP, CONFLICTING_VERSION, PREVIOUS_VERSION,
    RESOLUTION_STRATEGY,
};
use crate::record::Reported;
use crate::{Origin, Part, Record, Time};

use super::show::{Rival, Shown, ShownPart};
use super::values::{Values, View};

/// The state with the values in `shown`; `None` if the chunk is deleted.
///
/// If a value is not available (another program overwrote it in the row, and the record has no copy), the part keeps
/// its current value: a missing value never removes an existing one.
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
    set_reported(record, &mut chunk);
    record.forms.apply(&mut chunk);
    if let Some(rival) = &shown.rival {
        add_markers(&mut chunk, rival);
    }
    Some(State { chunk, embedding_stale: shown.stale })
}

/// The chunk without its optional parts.
fn blank(chunk: &Chunk) -> Chunk {
    let mut blank = Chunk { embeddings: Embeddings::default(), graph: Graph::default(), ..chunk.clone() };
    blank.summary = None;
    blank.code_metadata = None;
    blank.metadata.extra.clear();
    blank
}

/// Sets a part to its shown value: a merged text, a value of the view or the row, or one of the record. `None` if the
/// value is in none of them.
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

/// A chunk has room for one alternative: that of the first model with one.
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

/// Sets the fields that are not parts: the smallest `created_at`, the largest `updated_at`, the newest value of each
/// other field; `hybrid` if the writers reported several origins.
pub(super) fn set_reported(record: &Record, chunk: &mut Chunk) {
    let reported: Vec<&Reported> = record.writers.values().map(|history| &history.reported).collect();
    let metadata = &mut chunk.metadata;
    metadata.created_at = reported.iter().filter_map(|r| r.created_at).min().unwrap_or(metadata.created_at);
    metadata.updated_at = reported.iter().filter_map(|r| r.updated_at).max().unwrap_or(metadata.updated_at);
    let newest = |pick: fn(&Reported) -> Option<(Time, Time)>| {
        reported.iter().filter_map(|r| pick(r)).max().map(|(_, value)| value)
    };
    metadata.indexed_at = newest(|r| r.indexed_at);
    metadata.cognified_at = newest(|r| r.cognified_at);
    let millis = reported.iter().filter_map(|r| r.processing_time_ms);
    metadata.processing_time_ms = millis.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, value)| value);
    let mut origins: Vec<Origin> = reported.iter().flat_map(|r| r.origins.iter().copied()).collect();
    origins.sort_unstable();
    origins.dedup();
    chunk.system_origin = match origins.as_slice() {
        [] => chunk.system_origin,
        [one] => *one,
        _ => Origin::Hybrid,
    };
}

/// Adds markers to `metadata` if the shown content was in conflict: that there was a conflict, the other content and
/// the time; and, once it is resolved, the strategy.
///
/// The order of arrival is not part of the state: the same settings give the same markers in any order. So a resolved
/// conflict has both kinds of markers, whichever side is newer.
fn add_markers(chunk: &mut Chunk, rival: &Rival) {
    let mut put = |key: &str, value: serde_json::Value| drop(chunk.metadata.extra.insert(key.to_owned(), value));
    let since = rival.since.to_string();
    put(CONFLICT_DETECTED, true.into());
    put(CONFLICTING_VERSION, rival.sha256.as_str().into());
    put(CONFLICT_TIMESTAMP, since.as_str().into());
    if let Some(strategy) = rival.strategy {
        put(PREVIOUS_VERSION, rival.sha256.as_str().into());
        put(CONFLICT_RESOLVED_AT, since.as_str().into());
        put(RESOLUTION_STRATEGY, strategy.to_string().into());
    }
}
