//! The limits on the size of a published chunk and of each of its texts and lists. What passes here fits into every
//! store.

use crate::chunk::Chunk;
use crate::limits::Limits;
use crate::parse::{Cause, Invalid};

/// Checks the length of the whole chunk, before it is parsed.
pub(super) fn check_length(json: &str, limits: &Limits) -> Result<(), Invalid> {
    most("chunk", json.len(), limits.chunk_max_bytes, "bytes; the maximum is", "split the chunk")
}

/// Checks the length of a whole event in bytes.
pub(crate) fn check_event_length(bytes: usize, limits: &Limits) -> Result<(), Invalid> {
    most("event", bytes, limits.event_max_bytes, "bytes; the maximum is", "split the chunk")
}

/// Checks each text and list except the content.
pub(super) fn check(chunk: &Chunk, limits: &Limits) -> Result<(), Invalid> {
    let text = |field: &str, text: &str| bytes(field, text, limits.text_max_bytes);
    let optional = |field: &str, value: &Option<String>| value.as_ref().map_or(Ok(()), |value| text(field, value));
    bytes("chunk.summary", chunk.summary.as_deref().unwrap_or_default(), limits.summary_max_bytes)?;
    let source = &chunk.source;
    optional("chunk.source.url", &source.url)?;
    optional("chunk.source.path", &source.path)?;
    optional("chunk.source.repo", &source.repo)?;
    optional("chunk.source.branch", &source.branch)?;
    optional("chunk.source.commit", &source.commit)?;
    optional("chunk.organization.cognee_dataset", &chunk.organization.cognee_dataset)?;
    optional("chunk.graph.node_id", &chunk.graph.node_id)?;
    if let Some(sparse) = &chunk.embeddings.sparse {
        text("chunk.embeddings.sparse.model", &sparse.model)?;
    }
    if let Some(code) = &chunk.code_metadata {
        text("chunk.code_metadata.language", &code.language)?;
        for (name, list) in [("symbols", &code.symbols), ("imports", &code.imports)] {
            for (i, value) in list.iter().flatten().enumerate() {
                text(&format!("chunk.code_metadata.{name}[{i}]"), value)?;
            }
        }
    }
    for key in chunk.metadata.extra.keys() {
        text("chunk.metadata", key)?;
    }
    check_graph(chunk, limits)
}

fn check_graph(chunk: &Chunk, limits: &Limits) -> Result<(), Invalid> {
    let graph = &chunk.graph;
    let unit = "elements; the maximum is";
    most("chunk.graph.entities", graph.entities.len(), limits.entities_max, unit, "split the chunk")?;
    most("chunk.graph.relationships", graph.relationships.len(), limits.relationships_max, unit, "split the chunk")?;
    for (i, entity) in graph.entities.iter().enumerate() {
        bytes(&format!("chunk.graph.entities[{i}].name"), &entity.name, limits.text_max_bytes)?;
        if let Some(position) = entity.source_positions.iter().find(|position| i64::try_from(**position).is_err()) {
            return Err(Invalid::new(
                format!("chunk.graph.entities[{i}].source_positions"),
                format!("{position} is above 2^63 - 1, the greatest integer of the stores"),
            ));
        }
    }
    Ok(())
}

fn bytes(field: &str, text: &str, maximum: usize) -> Result<(), Invalid> {
    most(field, text.len(), maximum, "bytes; the maximum is", "shorten it")
}

fn most(field: &str, length: usize, maximum: usize, unit: &str, remedy: &str) -> Result<(), Invalid> {
    if length <= maximum {
        return Ok(());
    }
    Err(Invalid::new(field, format!("{length} {unit} {maximum}; {remedy}")).because(Cause::Setting))
}
