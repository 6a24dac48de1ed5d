//! Parses JSON into a chunk and validates it; errors name the field.

mod bounds;
mod canonical;
mod vectors;

pub(crate) use bounds::check_event_length;
use canonical::canonical;
pub(crate) use canonical::{
    CONFLICT_DETECTED, CONFLICT_RESOLVED_AT, CONFLICT_TIMESTAMP, CONFLICTING_VERSION, PREVIOUS_VERSION,
    RESOLUTION_STRATEGY, is_marker,
};

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::chunk::{Chunk, Graph};
use crate::limits::Limits;

/// An invalid input: the field and the fault. The service never guesses a correction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Path of the field, such as `chunk.graph.entities[3].id`.
    pub field: String,
    /// What is wrong with the field, and what is expected.
    pub message: String,
    /// What decides that the value is wrong.
    pub cause: Cause,
}

/// What decides that a value is wrong, and so whether the same input can be accepted later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The format: the input is wrong under every configuration.
    Format,
    /// A setting: a limit, or the list of models. The input is right under another configuration.
    Setting,
    /// The clock: the input is right later, or with the right clock.
    Clock,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), cause: Cause::Format }
    }

    /// The same, where `cause` decides.
    pub(crate) fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }
}

/// Fails unless `json` starts like a JSON object. Without this check serde would read an array as the fields in order.
pub(crate) fn object(field: &str, json: &str) -> Result<(), Invalid> {
    if json.trim_start().starts_with('{') { Ok(()) } else { Err(Invalid::new(field, "must be a JSON object")) }
}

/// Deserialises `json`; the field of an error is a path below `root`.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(root: &str, json: &'a str) -> Result<T, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| located(root, &error.path().to_string(), &error.into_inner().to_string()))?;
    deserializer.end().map_err(|error| Invalid::new(root, error.to_string()))?;
    Ok(value)
}

/// Appends the name of a missing, unknown or duplicate field to the path: serde puts it into the message only.
fn located(root: &str, path: &str, message: &str) -> Invalid {
    let mut field = if path == "." || path.is_empty() { root.to_owned() } else { join(root, path) };
    for prefix in ["missing field `", "unknown field `", "duplicate field `"] {
        if let Some((name, _)) = message.strip_prefix(prefix).and_then(|rest| rest.split_once('`'))
            && !field.ends_with(&format!(".{name}"))
        {
            field = join(&field, name);
        }
    }
    Invalid::new(field, message)
}

fn join(root: &str, path: &str) -> String {
    match (root, path.starts_with('[')) {
        ("", _) => path.to_owned(),
        (_, true) => format!("{root}{path}"),
        (_, false) => format!("{root}.{path}"),
    }
}

/// Parses a published chunk, checks every rule and brings the chunk into its canonical form.
pub(crate) fn chunk(json: &str, limits: &Limits) -> Result<Chunk, Invalid> {
    object("chunk", json)?;
    bounds::check_length(json, limits)?;
    let mut chunk: Chunk = from_json("chunk", json)?;
    if has_escaped_nul(json) {
        check_text(&chunk)?;
    }
    // Checked before `canonical` reorders elements, so that indices in errors match the input.
    check(&chunk, limits)?;
    canonical(&mut chunk);
    Ok(chunk)
}

/// Parses a chunk that PostgreSQL already holds: canonical form, but no check of rules.
pub(crate) fn fact(json: &str) -> Result<Chunk, Invalid> {
    let mut chunk: Chunk = from_json("chunk", json)?;
    canonical(&mut chunk);
    Ok(chunk)
}

impl Chunk {
    /// The chunk as a writer's view: in canonical form, without the fields that the service computes.
    #[must_use]
    pub fn into_view(mut self) -> Self {
        canonical(&mut self);
        self
    }
}

fn check(chunk: &Chunk, limits: &Limits) -> Result<(), Invalid> {
    check_content(&chunk.content, limits)?;
    bounds::check(chunk, limits)?;
    vectors::check(chunk, limits)?;
    let location = &chunk.location;
    if location.start_char > location.end_char {
        return Err(Invalid::new(
            "chunk.location.end_char",
            format!("{} is less than start_char {}", location.end_char, location.start_char),
        ));
    }
    if let (Some(start), Some(end)) = (location.start_line, location.end_line)
        && start > end
    {
        return Err(Invalid::new("chunk.location.end_line", format!("{end} is less than start_line {start}")));
    }
    if let Some(code) = &chunk.code_metadata {
        check_confidence("chunk.code_metadata.confidence", code.confidence)?;
    }
    check_graph(&chunk.graph)?;
    check_metadata(chunk)
}

fn check_content(content: &str, limits: &Limits) -> Result<(), Invalid> {
    let invalid = |message| Err(Invalid::new("chunk.content", message).because(Cause::Setting));
    let chars = content.chars().take(limits.content_min_chars).count();
    if chars < limits.content_min_chars {
        return invalid(format!("{chars} characters; the minimum is {}", limits.content_min_chars));
    }
    if content.len() > limits.content_max_bytes {
        return invalid(format!(
            "{} bytes; the maximum is {}; split the chunk",
            content.len(),
            limits.content_max_bytes
        ));
    }
    Ok(())
}

/// Rejects U+0000 in any text, because PostgreSQL's `text` and `jsonb` cannot store it.
fn check_text(chunk: &Chunk) -> Result<(), Invalid> {
    let nul = |field: &str, text: &str| {
        if text.contains('\0') {
            Err(Invalid::new(field, "contains U+0000, which PostgreSQL cannot store; remove it"))
        } else {
            Ok(())
        }
    };
    nul("chunk.content", &chunk.content)?;
    nul("chunk.summary", chunk.summary.as_deref().unwrap_or_default())?;
    // The other fields are short, so they are serialised: JSON shows the character as an escape at any depth.
    for (field, json) in [
        ("chunk.source", serde_json::to_string(&chunk.source)),
        ("chunk.code_metadata", serde_json::to_string(&chunk.code_metadata)),
        ("chunk.graph", serde_json::to_string(&chunk.graph)),
        ("chunk.organization", serde_json::to_string(&chunk.organization)),
        ("chunk.metadata", serde_json::to_string(&chunk.metadata)),
        ("chunk.embeddings.sparse.model", serde_json::to_string(&chunk.embeddings.sparse.as_ref().map(|s| &s.model))),
    ] {
        if json.is_ok_and(|json| has_escaped_nul(&json)) {
            return Err(Invalid::new(field, "contains U+0000, which PostgreSQL cannot store; remove it"));
        }
    }
    Ok(())
}

/// Whether JSON text contains the escape of U+0000. In `\\u0000` the backslash is itself escaped, so that is not one.
fn has_escaped_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| json[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0)
}

fn check_confidence(field: &str, confidence: f64) -> Result<(), Invalid> {
    if (0.0..=1.0).contains(&confidence) {
        Ok(())
    } else {
        Err(Invalid::new(field, format!("{confidence} is out of range; expected a number from 0 to 1")))
    }
}

fn check_graph(graph: &Graph) -> Result<(), Invalid> {
    let mut ids = HashSet::new();
    for (i, entity) in graph.entities.iter().enumerate() {
        let path = format!("chunk.graph.entities[{i}]");
        if !(1..=512).contains(&entity.id.len()) {
            return Err(Invalid::new(format!("{path}.id"), format!("{} bytes; an id has 1 to 512", entity.id.len())));
        }
        if !ids.insert(entity.id.as_str()) {
            return Err(Invalid::new(
                format!("{path}.id"),
                format!("`{}` occurs twice; give each entity once", entity.id),
            ));
        }
        check_confidence(&format!("{path}.confidence"), entity.confidence)?;
    }
    let mut seen = HashSet::new();
    for (i, relationship) in graph.relationships.iter().enumerate() {
        let path = format!("chunk.graph.relationships[{i}]");
        for (end, id) in
            [("source_entity_id", &relationship.source_entity_id), ("target_entity_id", &relationship.target_entity_id)]
        {
            if !ids.contains(id.as_str()) {
                return Err(Invalid::new(
                    format!("{path}.{end}"),
                    format!("no entity `{id}` in chunk.graph.entities; add it there"),
                ));
            }
        }
        if !seen.insert((relationship.kind, &relationship.source_entity_id, &relationship.target_entity_id)) {
            return Err(Invalid::new(path, "type, source and target occur twice; give each relationship once"));
        }
        check_confidence(&format!("{path}.confidence"), relationship.confidence)?;
    }
    Ok(())
}

fn check_metadata(chunk: &Chunk) -> Result<(), Invalid> {
    let metadata = &chunk.metadata;
    if metadata.created_at > metadata.updated_at {
        return Err(Invalid::new(
            "chunk.metadata.updated_at",
            format!("{} is before created_at {}", metadata.updated_at, metadata.created_at),
        ));
    }
    if metadata.extra.contains_key("_chunk") {
        return Err(Invalid::new("chunk.metadata._chunk", "reserved for chunk-sync; rename the key"));
    }
    match metadata.extra.get("quality_score") {
        None | Some(Value::Number(_) | Value::Null) => Ok(()),
        Some(other) => Err(Invalid::new("chunk.metadata.quality_score", format!("{other} is not a number"))),
    }
}
