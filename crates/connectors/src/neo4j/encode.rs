//! Encodes writes and documents as Bolt parameters.

use std::collections::BTreeMap;

use chunk_sync_engine::ports::{Fault, FaultClass, Write};
use chunk_sync_model::document::{GraphDocument, Mention};
use chunk_sync_model::{SyncVersion, Time};
use uuid::Uuid;

use super::bolt::Value;
use super::fault::WRITE;

/// Maximum length of a data set's name, in bytes. The server's indexes accept keys of up to about 8,160 bytes.
const NAME_MOST: usize = 8000;

/// The state of a chunk after a write.
pub(super) struct Next {
    pub(super) document: GraphDocument,
    pub(super) created: Time,
    pub(super) updated: Time,
}

/// A validated write.
pub(super) struct Change {
    /// The chunk's id as text, see [`text`].
    pub(super) id: String,
    pub(super) version: SyncVersion,
    /// `None` deletes the chunk.
    pub(super) next: Option<Next>,
    /// The stored relations may disagree with the links, because nothing is known of what the store holds, or because
    /// verification found a difference: the evidence is read as well. It is expensive where many chunks share an
    /// entity.
    pub(super) thorough: bool,
}

/// Validates a write.
///
/// # Errors
/// [`Rejected`](FaultClass::Rejected) with the field, if the name of the data set is longer than [`NAME_MOST`] bytes or
/// a source position is above 2^63 - 1.
pub(super) fn change(write: &Write) -> Result<Change, Fault> {
    let next = write.state.as_deref().map(|state| Next {
        document: GraphDocument::of(state),
        created: state.chunk.metadata.created_at,
        updated: state.chunk.metadata.updated_at,
    });
    if let Some(next) = &next {
        refuse(&next.document)?;
    }
    // A repair, and a write of which nothing is known, has this value.
    let thorough = write.vectors_since == write.version;
    Ok(Change { id: text(write.id), version: write.version, next, thorough })
}

fn refuse(document: &GraphDocument) -> Result<(), Fault> {
    let rejected = |field, message: String| Err(Fault::new(FaultClass::Rejected, WRITE, message).at(field));
    if document.dataset.as_ref().is_some_and(|name| name.len() > NAME_MOST) {
        return rejected(
            "organization.cognee_dataset",
            format!("the name of the data set has more than {NAME_MOST} bytes, too many for a Neo4j index; shorten it"),
        );
    }
    let positions = document.entities.values().flat_map(|mention| &mention.positions);
    match positions.copied().find(|position| i64::try_from(*position).is_err()) {
        Some(position) => rejected(
            "graph.entities.source_positions",
            format!("position {position} is above 2^63 - 1, the greatest integer that Neo4j can store; correct it"),
        ),
        None => Ok(()),
    }
}

/// An id as the graph stores it: lower case with hyphens, so that text order equals byte order.
pub(super) fn text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// A row of parameters.
pub(super) fn row<const N: usize>(values: [Value; N]) -> Value {
    values.into_iter().collect()
}

/// A list of texts.
pub(super) fn list(texts: &[&str]) -> Value {
    texts.iter().copied().collect()
}

/// What one `CONTAINS_ENTITY` stores: the chunk's statement about the entity, and its relations that start there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) mention: Mention,
    /// Target, type and confidence of each relation, in the order of the document.
    pub(super) relates: Vec<(String, String, f64)>,
}

/// The links of a document, by entity id.
pub(super) fn links(document: &GraphDocument) -> BTreeMap<&str, Link> {
    let link = |mention: &Mention| Link { mention: mention.clone(), relates: Vec::new() };
    let mut links: BTreeMap<_, _> = document.entities.iter().map(|(id, m)| (id.as_str(), link(m))).collect();
    for relation in &document.relations {
        if let Some(link) = links.get_mut(relation.source.as_str()) {
            link.relates.push((relation.target.clone(), relation.kind.clone(), relation.confidence));
        }
    }
    links
}

/// A link as an element of a row of [`cypher::CHUNKS`](super::cypher::CHUNKS).
pub(super) fn link_row(entity: &str, Link { mention, relates }: &Link) -> Value {
    let positions = mention.positions.iter().filter_map(|position| i64::try_from(*position).ok());
    let mut values: Vec<Value> = vec![
        entity.into(),
        mention.name.as_str().into(),
        mention.kind.as_str().into(),
        mention.confidence.into(),
        positions.collect(),
    ];
    // Most links have no relations; their lists are left out.
    if !relates.is_empty() {
        values.push(relates.iter().map(|(target, ..)| target.as_str()).collect());
        values.push(relates.iter().map(|(_, kind, _)| kind.as_str()).collect());
        values.push(relates.iter().map(|(.., confidence)| *confidence).collect());
    }
    values.into()
}
