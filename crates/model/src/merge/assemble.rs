//! Builds the chunk that shows, and moves values between the row and the record: a value stands in the record only while
//! the row does not show it.

use std::collections::HashMap;

use crate::chunk::{Chunk, Embeddings, Graph, State};
use crate::part::PartValue;
use crate::record::Said;
use crate::{Hash, Origin, Part, Record, Time};

use super::Shown;
use super::show::ShownPart;

/// The state that shows `shown`; `None` where the chunk is gone. Every value comes from the view, from what was held or
/// from the record.
pub(super) fn assemble(
    record: &mut Record,
    shown: &Shown,
    held: Option<&State>,
    view: Option<&Chunk>,
) -> Option<State> {
    let pool = Pool::new(held.map(|state| &state.chunk), view);
    let chunk = view.or(held.map(|state| &state.chunk)).filter(|_| shown.exists);
    let state = chunk.and_then(|chunk| build(record, shown, &pool, blank(chunk)));
    keep_unshown_values(record, if state.is_some() { Some(shown) } else { None }, &pool);
    state
}

/// Values at hand, by part and hash.
struct Pool<'a>(HashMap<(Part, Hash), PartValue<'a>>);

impl<'a> Pool<'a> {
    fn new(held: Option<&'a Chunk>, view: Option<&'a Chunk>) -> Self {
        let mut values = HashMap::new();
        for chunk in [held, view].into_iter().flatten() {
            values.extend(chunk.parts().into_iter().map(|(part, value)| ((part, value.hash()), value)));
        }
        if let Some(alternative) = held.and_then(|chunk| chunk.embeddings.dense_alternative.as_ref()) {
            let value = PartValue::Dense(alternative);
            values.insert((Part::Dense(alternative.model.clone()), value.hash()), value);
        }
        Self(values)
    }

    fn get(&self, part: &Part, hash: Hash) -> Option<PartValue<'a>> {
        self.0.get(&(part.clone(), hash)).copied()
    }
}

/// A chunk without any of the parts that can be absent.
fn blank(chunk: &Chunk) -> Chunk {
    let mut chunk = chunk.clone();
    chunk.summary = None;
    chunk.embeddings = Embeddings::default();
    chunk.code_metadata = None;
    chunk.graph = Graph::default();
    chunk.metadata.extra.clear();
    chunk
}

fn build(record: &Record, shown: &Shown, pool: &Pool<'_>, mut chunk: Chunk) -> Option<State> {
    for (part, value) in &shown.parts {
        put(&mut chunk, record, pool, part, *value)?;
    }
    // One alternative has a place in a chunk: that of the first model that has one.
    if let Some((part, other)) = shown.alternatives.iter().next() {
        let dense = chunk.embeddings.dense.len();
        put(&mut chunk, record, pool, part, *other)?;
        let alternative = chunk.embeddings.dense.split_off(dense).pop();
        chunk.embeddings.dense_alternative = alternative;
        chunk.embeddings.conflict_resolution = Some("keep_both".into());
        chunk.embeddings.primary_source = shown.parts.get(part).map(|first| first.version.writer.to_string());
        chunk.embeddings.alternative_source = Some(other.version.writer.to_string());
    }
    say(record, &mut chunk);
    Some(State { chunk, embedding_stale: shown.stale })
}

/// Puts a value in its place, wherever it is to be had; `None` where it is nowhere.
fn put(chunk: &mut Chunk, record: &Record, pool: &Pool<'_>, part: &Part, shown: ShownPart) -> Option<()> {
    if let Some(value) = pool.get(part, shown.hash) {
        chunk.put(part, value);
        return Some(());
    }
    let settings = record.writers.values().filter_map(|history| history.parts.get(part)).flatten();
    let json = settings.filter(|s| s.hash == Some(shown.hash)).find_map(|s| s.value.as_deref())?;
    chunk.put_json(part, json).ok()
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

/// Gives each setting that the row does not show its value, and takes it from those that it does show.
fn keep_unshown_values(record: &mut Record, shown: Option<&Shown>, pool: &Pool<'_>) {
    let alternative = shown.and_then(|shown| shown.alternatives.iter().next());
    for history in record.writers.values_mut() {
        for (part, settings) in &mut history.parts {
            let in_row = |hash: Hash| {
                shown.and_then(|shown| shown.parts.get(part)).is_some_and(|first| first.hash == hash)
                    || alternative.is_some_and(|(other, value)| other == part && value.hash == hash)
            };
            for setting in settings {
                let Some(hash) = setting.hash.filter(|_| *part != Part::Existence) else {
                    continue;
                };
                if in_row(hash) {
                    setting.value = None;
                } else if setting.value.is_none() {
                    setting.value = pool.get(part, hash).map(|value| value.to_json());
                }
            }
        }
    }
}
