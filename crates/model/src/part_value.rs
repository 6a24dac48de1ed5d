//! The values of parts: their hashes, their JSON, and the parts of a chunk.

use serde::Serialize;
use serde_json::Value;

use crate::Hash;
use crate::chunk::{
    Chunk, ChunkType, CodeMetadata, Dense, Entity, Location, Organization, Relationship, Source, Sparse,
};
use crate::part::Part;

/// The value of a part, borrowed from a chunk.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum PartValue<'a> {
    /// Whether the chunk exists.
    Exists(bool),
    /// `content`, `summary`, `graph.node_id`
    Text(&'a str),
    /// `chunk_type`
    ChunkType(ChunkType),
    /// A dense embedding.
    Dense(&'a Dense),
    /// The sparse embedding.
    Sparse(&'a Sparse),
    /// `source`
    Source(&'a Source),
    /// `location`
    Location(&'a Location),
    /// `code_metadata`
    CodeMetadata(&'a CodeMetadata),
    /// `organization`
    Organization(&'a Organization),
    /// A value of `metadata`.
    Json(&'a Value),
    /// An entity.
    Entity(&'a Entity),
    /// A relationship.
    Relationship(&'a Relationship),
}

impl PartValue<'_> {
    /// The hash that identifies the value among the values of its part.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self {
            Self::Text(text) => Hash::of_bytes(text.as_bytes()),
            Self::Dense(dense) => hash_dense(dense),
            other => Hash::of_json(other),
        }
    }

    /// The value as JSON text, the form in which a record stores it.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialisation cannot fail: all map keys are strings and all floats are finite.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Hashes the bytes of the vector instead of its JSON text, because vectors are most of a chunk.
pub(super) fn hash_dense(dense: &Dense) -> Hash {
    let mut bytes = dense.vector.to_bytes();
    bytes.extend_from_slice(&dense.timestamp.map_or(i64::MIN, crate::Time::micros).to_le_bytes());
    bytes.extend_from_slice(dense.model.as_bytes());
    Hash::of_bytes(&bytes)
}

impl Chunk {
    /// All parts that the chunk has, including [`Part::Existence`], with their values. Part names are unique.
    #[must_use]
    pub fn parts(&self) -> Vec<(Part, PartValue<'_>)> {
        let mut parts = vec![
            (Part::Existence, PartValue::Exists(true)),
            (Part::Content, PartValue::Text(&self.content)),
            (Part::ChunkType, PartValue::ChunkType(self.chunk_type)),
            (Part::Source, PartValue::Source(&self.source)),
            (Part::Location, PartValue::Location(&self.location)),
            (Part::Organization, PartValue::Organization(&self.organization)),
        ];
        parts.extend(self.summary.iter().map(|summary| (Part::Summary, PartValue::Text(summary))));
        parts.extend(self.embeddings.dense.iter().map(|d| (Part::Dense(d.model.clone()), PartValue::Dense(d))));
        parts.extend(self.embeddings.sparse.iter().map(|sparse| (Part::Sparse, PartValue::Sparse(sparse))));
        parts.extend(self.code_metadata.iter().map(|code| (Part::CodeMetadata, PartValue::CodeMetadata(code))));
        parts.extend(self.graph.node_id.iter().map(|id| (Part::NodeId, PartValue::Text(id))));
        parts.extend(self.metadata.extra.iter().map(|(key, v)| (Part::Metadata(key.clone()), PartValue::Json(v))));
        parts.extend(self.graph.entities.iter().map(|e| (Part::Entity(e.id.clone()), PartValue::Entity(e))));
        parts.extend(self.graph.relationships.iter().map(|r| (r.part(), PartValue::Relationship(r))));
        parts
    }

    /// Sets `part` to the value in `json`. Dense embeddings, entities and relationships are appended, and an existing
    /// one is not replaced: remove it first. [`Part::Existence`] is ignored.
    ///
    /// # Errors
    /// If `json` does not deserialise as a value of that part.
    pub fn put_json(&mut self, part: &Part, json: &str) -> Result<(), serde_json::Error> {
        match part {
            Part::Existence => {}
            Part::Content => self.content = serde_json::from_str(json)?,
            Part::Summary => self.summary = serde_json::from_str(json)?,
            Part::ChunkType => self.chunk_type = serde_json::from_str(json)?,
            Part::Dense(_) => self.embeddings.dense.push(serde_json::from_str(json)?),
            Part::Sparse => self.embeddings.sparse = serde_json::from_str(json)?,
            Part::Source => self.source = serde_json::from_str(json)?,
            Part::Location => self.location = serde_json::from_str(json)?,
            Part::CodeMetadata => self.code_metadata = serde_json::from_str(json)?,
            Part::Organization => self.organization = serde_json::from_str(json)?,
            Part::NodeId => self.graph.node_id = serde_json::from_str(json)?,
            Part::Metadata(key) => {
                self.metadata.extra.insert(key.clone(), serde_json::from_str(json)?);
            }
            Part::Entity(_) => self.graph.entities.push(serde_json::from_str(json)?),
            Part::Relationship(..) => self.graph.relationships.push(serde_json::from_str(json)?),
        }
        Ok(())
    }

    /// Removes the part. Does nothing for a part that every chunk has.
    pub(crate) fn remove(&mut self, part: &Part) {
        match part {
            Part::Summary => self.summary = None,
            Part::Dense(model) => self.embeddings.dense.retain(|dense| dense.model != *model),
            Part::Sparse => self.embeddings.sparse = None,
            Part::CodeMetadata => self.code_metadata = None,
            Part::NodeId => self.graph.node_id = None,
            Part::Metadata(key) => drop(self.metadata.extra.remove(key)),
            Part::Entity(id) => self.graph.entities.retain(|entity| entity.id != *id),
            Part::Relationship(..) => self.graph.relationships.retain(|relationship| relationship.part() != *part),
            Part::Existence | Part::Content | Part::ChunkType | Part::Source | Part::Location | Part::Organization => {}
        }
    }

    /// Sets `part` to a clone of `value`, in the same way as [`Self::put_json`].
    pub fn put(&mut self, part: &Part, value: PartValue<'_>) {
        match (part, value) {
            (Part::Summary, PartValue::Text(text)) => self.summary = Some(text.into()),
            (Part::NodeId, PartValue::Text(text)) => self.graph.node_id = Some(text.into()),
            (_, PartValue::Text(text)) => self.content = text.into(),
            (Part::Metadata(key), PartValue::Json(value)) => {
                self.metadata.extra.insert(key.clone(), value.clone());
            }
            (_, PartValue::Json(_) | PartValue::Exists(_)) => {}
            (_, PartValue::ChunkType(kind)) => self.chunk_type = kind,
            (_, PartValue::Dense(dense)) => self.embeddings.dense.push(dense.clone()),
            (_, PartValue::Sparse(sparse)) => self.embeddings.sparse = Some(sparse.clone()),
            (_, PartValue::Source(source)) => self.source = source.clone(),
            (_, PartValue::Location(location)) => self.location = *location,
            (_, PartValue::CodeMetadata(code)) => self.code_metadata = Some(code.clone()),
            (_, PartValue::Organization(organization)) => self.organization = organization.clone(),
            (_, PartValue::Entity(entity)) => self.graph.entities.push(entity.clone()),
            (_, PartValue::Relationship(relationship)) => {
                self.graph.relationships.push(relationship.clone());
            }
        }
    }
}

impl Relationship {
    /// The part that identifies this relationship.
    #[must_use]
    pub fn part(&self) -> Part {
        Part::Relationship(self.kind, self.source_entity_id.clone(), self.target_entity_id.clone())
    }
}
