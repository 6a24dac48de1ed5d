//! Values as Bolt carries them, and a write as the graph is to hold it.

use chunk_sync_engine::ports::{Fault, FaultClass, Write};
use chunk_sync_model::document::{GraphDocument, Mention};
use chunk_sync_model::{SyncVersion, Time};
use neo4rs::{BoltMap, BoltString, BoltType};
use uuid::Uuid;

use super::store::WRITE;

/// The longest name of a data set, in bytes: the server's indexes hold no key above some 8,160.
const NAME_MOST: usize = 8000;

/// What a chunk is to be from now on.
pub(super) struct Next {
    pub(super) document: GraphDocument,
    pub(super) created: Time,
    pub(super) updated: Time,
}

/// A write as the graph is asked for it.
pub(super) struct Change {
    /// The chunk's id, as text.
    pub(super) id: String,
    pub(super) version: SyncVersion,
    /// `None` deletes.
    pub(super) next: Option<Next>,
}

/// Reads a write.
///
/// # Errors
/// [`Rejected`](FaultClass::Rejected), naming the field, for what no graph can hold.
pub(super) fn change(write: &Write) -> Result<Change, Fault> {
    let next = write.state.as_deref().map(|state| Next {
        document: GraphDocument::of(state),
        created: state.chunk.metadata.created_at,
        updated: state.chunk.metadata.updated_at,
    });
    if let Some(next) = &next {
        refuse(&next.document)?;
    }
    Ok(Change { id: text(write.id), version: write.version, next })
}

fn refuse(document: &GraphDocument) -> Result<(), Fault> {
    let rejected = |field, message: String| Err(Fault::new(FaultClass::Rejected, WRITE, message).at(field));
    if document.dataset.as_ref().is_some_and(|name| name.len() > NAME_MOST) {
        return rejected("organization.cognee_dataset", format!("longer than {NAME_MOST} bytes"));
    }
    let positions = document.entities.values().flat_map(|mention| &mention.positions);
    match positions.copied().find(|position| i64::try_from(*position).is_err()) {
        Some(position) => rejected("graph.entities.source_positions", format!("{position} is above 2^63 - 1")),
        None => Ok(()),
    }
}

/// An id as the graph holds it: in lower case with hyphens, so that the order of texts is the order of bytes.
pub(super) fn text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// A map, as a row of parameters is one.
pub(super) fn map<'a>(fields: impl IntoIterator<Item = (&'a str, BoltType)>) -> BoltType {
    BoltType::Map(fields.into_iter().map(|(key, value)| (BoltString::from(key), value)).collect::<BoltMap>())
}

/// The properties of a chunk's node, but for its id.
pub(super) fn node(document: &GraphDocument, version: SyncVersion) -> BoltType {
    map([
        ("content_hash", document.content_hash.as_str().into()),
        ("chunk_type", document.chunk_type.as_str().into()),
        ("source_type", document.source_type.as_str().into()),
        ("system_origin", document.system_origin.as_str().into()),
        ("created_at", document.created_at.as_str().into()),
        ("updated_at", document.updated_at.as_str().into()),
        ("sync_version", version.signed().into()),
    ])
}

/// The properties of a `CONTAINS_ENTITY`.
pub(super) fn said(mention: &Mention) -> BoltType {
    let positions = mention.positions.iter().filter_map(|position| i64::try_from(*position).ok());
    map([
        ("name", mention.name.as_str().into()),
        ("type", mention.kind.as_str().into()),
        ("confidence", mention.confidence.into()),
        ("position", positions.collect()),
    ])
}
