//! Makes one realistic change to a chunk, as an editor, an indexer or an entity extractor would.
//! A change of the content also updates the fields computed from it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{START, described, located, positions, relation, sentence, stamp, vector};
use crate::pool::{Entity, POOL, comment};
use crate::rng::Rng;

/// Content longer than this many bytes is halved before text is appended.
const CUT_ABOVE: usize = 6_000;
const MOST_ENTITIES: usize = 6;

pub(super) fn edit(chunk: &Value, rng: &mut Rng) -> Value {
    let mut chunk = chunk.clone();
    touch(&mut chunk, rng);
    match rng.below(8) {
        0..4 => content(&mut chunk, rng),
        4..6 => metadata(&mut chunk, rng),
        6 => chunk["summary"] = sentence(&POOL, rng).into(),
        _ => entities(&mut chunk, rng),
    }
    chunk
}

/// Advances `updated_at` by a second to an hour.
fn touch(chunk: &mut Value, rng: &mut Rng) {
    let before = chunk["metadata"]["updated_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let before = before.map_or(START, Timestamp::as_microsecond);
    let step = 1_000_000 + rng.below(3_599_000_000) as i64;
    chunk["metadata"]["updated_at"] = stamp(before + step).into();
}

pub(super) fn content(chunk: &mut Value, rng: &mut Rng) {
    let old = chunk["content"].as_str().unwrap_or_default();
    let mut new = if old.len() > CUT_ABOVE || rng.one_in(4) { first_half(old) } else { old }.to_owned();
    new.push('\n');
    if chunk["chunk_type"] == "code" {
        new.push_str(comment(chunk["code_metadata"]["language"].as_str().unwrap_or_default()));
    }
    new.push_str(sentence(&POOL, rng));

    relocate(&mut chunk["location"], &new);
    if let Some(entities) = chunk["graph"]["entities"].as_array_mut() {
        for entity in entities {
            let found = positions(entity["name"].as_str().unwrap_or_default(), &new);
            entity["source_positions"] = found.into();
        }
    }
    reembed(chunk, &new);
    chunk["content"] = new.into();
}

/// The lines up to the middle; the whole text if it has only one line or the half would be shorter than 100 bytes.
fn first_half(text: &str) -> &str {
    let middle = text.floor_char_boundary(text.len() / 2);
    match text[..middle].rfind('\n') {
        Some(end) if text[..end].trim().len() >= 100 => &text[..end],
        _ => text,
    }
}

fn relocate(location: &mut Value, content: &str) {
    let number = |name: &str| location[name].as_u64().map(|number| number as usize);
    let start_char = number("start_char").unwrap_or_default();
    *location = located(number("chunk_index").unwrap_or_default(), start_char, number("start_line"), content);
}

/// Recomputes the vectors at their current length. A chunk without embeddings gets none.
fn reembed(chunk: &mut Value, content: &str) {
    let size = chunk["embeddings"]["dense"]["vector"].as_array().map(Vec::len);
    if let Some(size) = size {
        let filled = crate::embeddings(content, &vector(content, size), &chunk["metadata"]["updated_at"]);
        chunk["embeddings"] = filled;
    }
}

pub(super) fn metadata(chunk: &mut Value, rng: &mut Rng) {
    let metadata = &mut chunk["metadata"];
    metadata["quality_score"] = rng.hundredths(40, 99).into();
    metadata["revision"] = (metadata["revision"].as_u64().unwrap_or(1) + 1).into();
    if rng.one_in(2) {
        metadata["reviewed"] = rng.one_in(2).into();
    }
}

/// Adds an entity, related to the first one; or removes the last one, always at the limit and sometimes below it.
fn entities(chunk: &mut Value, rng: &mut Rng) {
    let content = chunk["content"].as_str().unwrap_or_default().to_owned();
    let graph = &mut chunk["graph"];
    let mut entities = graph["entities"].as_array().cloned().unwrap_or_default();
    let mut relations = graph["relationships"].as_array().cloned().unwrap_or_default();
    if entities.len() >= MOST_ENTITIES || (entities.len() > 1 && rng.one_in(3)) {
        if let Some(gone) = entities.pop() {
            let ends = ["source_entity_id", "target_entity_id"];
            relations.retain(|relation| ends.iter().all(|end| relation[*end] != gone["id"]));
        }
    } else {
        let new = POOL.entity(rng);
        if entities.iter().any(|entity| entity["id"] == new.id.as_str()) {
            return;
        }
        if let Some(first) = entities.first().and_then(read) {
            relations.push(relation(&new, &first, rng));
        }
        entities.push(described(&new, &content, rng));
    }
    // The other keys of the graph, such as the node's id, stay.
    if !graph.is_object() {
        *graph = json!({});
    }
    graph["entities"] = entities.into();
    graph["relationships"] = relations.into();
}

fn read(entity: &Value) -> Option<Entity> {
    Some(Entity {
        id: entity["id"].as_str()?.to_owned(),
        kind: entity["type"].as_str()?.to_owned(),
        name: entity["name"].as_str()?.to_owned(),
    })
}
