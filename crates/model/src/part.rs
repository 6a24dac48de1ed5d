//! The parts of a chunk: the units that writers change and that merge decides on individually.
//!
//! A part has a name on the wire (`content`, `metadata.author`, `graph.entities.<id>`), which is used in an event's
//! `unchanged` and `set`, in conflicts and in reports. A name can also denote a group: all parts below it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Hash;
use crate::chunk::{
    Chunk, ChunkType, CodeMetadata, Dense, Entity, Location, Organization, Relationship, RelationshipType, Source,
    Sparse,
};

/// Identifies a part of a chunk. The order of the variants is part of the record's format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Whether the chunk exists.
    Existence,
    /// `content`
    Content,
    /// `summary`
    Summary,
    /// `chunk_type`
    ChunkType,
    /// The dense embedding of one model.
    Dense(String),
    /// The sparse embedding.
    Sparse,
    /// `source`
    Source,
    /// `location`
    Location,
    /// `code_metadata`
    CodeMetadata,
    /// `organization`
    Organization,
    /// `graph.node_id`
    NodeId,
    /// One key of `metadata`.
    Metadata(String),
    /// One entity, by id.
    Entity(String),
    /// One relationship, by type and both ends.
    Relationship(RelationshipType, String, String),
}

/// A part or a group of parts, as named in `unchanged` and `set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartPattern {
    /// This part only.
    One(Part),
    /// `embeddings`: all dense embeddings and the sparse one.
    Embeddings,
    /// `embeddings.dense`: the dense embeddings of all models.
    Dense,
    /// `metadata`: all keys.
    Metadata,
    /// `graph`: node id, entities, relationships.
    Graph,
    /// `graph.entities`
    Entities,
    /// `graph.relationships`
    Relationships,
}

impl Part {
    /// Whether every chunk has this part, so that it cannot be removed.
    #[must_use]
    pub fn is_required(&self) -> bool {
        matches!(
            self,
            Self::Existence | Self::Content | Self::ChunkType | Self::Source | Self::Location | Self::Organization
        )
    }
}

impl PartPattern {
    /// Whether `part` is this part or belongs to this group.
    #[must_use]
    pub fn covers(&self, part: &Part) -> bool {
        match self {
            Self::One(one) => one == part,
            Self::Embeddings => matches!(part, Part::Dense(_) | Part::Sparse),
            Self::Dense => matches!(part, Part::Dense(_)),
            Self::Metadata => matches!(part, Part::Metadata(_)),
            Self::Graph => matches!(part, Part::NodeId | Part::Entity(_) | Part::Relationship(..)),
            Self::Entities => matches!(part, Part::Entity(_)),
            Self::Relationships => matches!(part, Part::Relationship(..)),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existence => f.write_str("existence"),
            Self::Content => f.write_str("content"),
            Self::Summary => f.write_str("summary"),
            Self::ChunkType => f.write_str("chunk_type"),
            Self::Dense(model) => write!(f, "embeddings.dense.{model}"),
            Self::Sparse => f.write_str("embeddings.sparse"),
            Self::Source => f.write_str("source"),
            Self::Location => f.write_str("location"),
            Self::CodeMetadata => f.write_str("code_metadata"),
            Self::Organization => f.write_str("organization"),
            Self::NodeId => f.write_str("graph.node_id"),
            Self::Metadata(key) => write!(f, "metadata.{key}"),
            Self::Entity(id) => write!(f, "graph.entities.{id}"),
            // The ids of the ends may contain any character, so they are written as a JSON array.
            Self::Relationship(kind, source, target) => {
                write!(
                    f,
                    "graph.relationships.{}.{}",
                    kind.as_str(),
                    Value::from([source.as_str(), target.as_str()].as_slice())
                )
            }
        }
    }
}

impl fmt::Display for PartPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(part) => part.fmt(f),
            Self::Embeddings => f.write_str("embeddings"),
            Self::Dense => f.write_str("embeddings.dense"),
            Self::Metadata => f.write_str("metadata"),
            Self::Graph => f.write_str("graph"),
            Self::Entities => f.write_str("graph.entities"),
            Self::Relationships => f.write_str("graph.relationships"),
        }
    }
}

impl FromStr for PartPattern {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "embeddings" => Self::Embeddings,
            "embeddings.dense" => Self::Dense,
            "metadata" => Self::Metadata,
            "graph" => Self::Graph,
            "graph.entities" => Self::Entities,
            "graph.relationships" => Self::Relationships,
            _ => Self::One(name.parse()?),
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "`{name}` is not a part of a chunk; use a name such as content, metadata.<key>, graph.entities.<id>"
            )
        };
        Ok(match name {
            "existence" => Self::Existence,
            "content" => Self::Content,
            "summary" => Self::Summary,
            "chunk_type" => Self::ChunkType,
            "embeddings.sparse" => Self::Sparse,
            "source" => Self::Source,
            "location" => Self::Location,
            "code_metadata" => Self::CodeMetadata,
            "organization" => Self::Organization,
            "graph.node_id" => Self::NodeId,
            _ => {
                if let Some(model) = name.strip_prefix("embeddings.dense.") {
                    Self::Dense(model.into())
                } else if let Some(key) = name.strip_prefix("metadata.") {
                    Self::Metadata(key.into())
                } else if let Some(id) = name.strip_prefix("graph.entities.") {
                    Self::Entity(id.into())
                } else {
                    let rest = name.strip_prefix("graph.relationships.").ok_or_else(unknown)?;
                    let (kind, ends) = rest.split_once('.').ok_or_else(unknown)?;
                    let kind = RelationshipType::ALL.iter().find(|k| k.as_str() == kind).ok_or_else(unknown)?;
                    let (source, target) = serde_json::from_str(ends).map_err(|_| unknown())?;
                    Self::Relationship(*kind, source, target)
                }
            }
        })
    }
}

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
fn hash_dense(dense: &Dense) -> Hash {
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
