//! The parts of a chunk: the units that writers change and that merge decides on individually.
//!
//! A part has a name on the wire (`content`, `metadata.author`, `graph.entities.<id>`), which is used in an event's
//! `unchanged` and `set`, in conflicts and in reports. A name can also denote a group: all parts below it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chunk::RelationshipType;

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
    ///
    /// ```
    /// use chunk_sync_model::{Part, PartPattern};
    ///
    /// let metadata: PartPattern = "metadata".parse()?;
    /// assert!(metadata.covers(&Part::Metadata("topic".into())));
    /// assert!(!metadata.covers(&Part::Content));
    /// # Ok::<(), String>(())
    /// ```
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
