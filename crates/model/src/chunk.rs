//! The chunk: its fields as they are on the wire. How they are merged is not here.
//!
//! The wire form is one JSON object. Unknown fields inside `metadata` are kept; unknown fields elsewhere are an error.

mod embeddings;
mod graph;
mod metadata;
mod object;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::embeddings::{Dense, Embeddings, Sparse};
pub use self::graph::{Entity, EntityType, Graph, Relationship, RelationshipType};
pub use self::metadata::Metadata;
use crate::Origin;

/// A piece of text or code with its embeddings, entities and metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The chunk's identity in every store.
    pub id: Uuid,
    /// The system that wrote the chunk; `hybrid` once several did.
    pub system_origin: Origin,
    /// The text or code.
    pub content: String,
    /// A summary of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Text, code or both.
    pub chunk_type: ChunkType,
    /// Dense vectors, one per model, and the sparse vector.
    #[serde(default, deserialize_with = "object::one", skip_serializing_if = "Embeddings::is_empty")]
    pub embeddings: Embeddings,
    /// Where the content comes from.
    #[serde(deserialize_with = "object::one")]
    pub source: Source,
    /// The position of the content in its source.
    #[serde(deserialize_with = "object::one")]
    pub location: Location,
    /// Properties of the content as code.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub code_metadata: Option<CodeMetadata>,
    /// Entities and relationships in the knowledge graph.
    #[serde(default, deserialize_with = "object::one", skip_serializing_if = "Graph::is_empty")]
    pub graph: Graph,
    /// The project and data set that the chunk belongs to.
    #[serde(deserialize_with = "object::one")]
    pub organization: Organization,
    /// Times, and arbitrary further keys set by the writers.
    pub metadata: Metadata,
}

/// The merged state of a chunk: what every store should hold.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The merged chunk.
    pub chunk: Chunk,
    /// Whether an embedding was computed from other content than `chunk.content`.
    pub embedding_stale: bool,
}

/// The kind of content of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkType {
    /// Text other than source code.
    Text,
    /// Source code.
    Code,
    /// Both.
    Mixed,
}

impl ChunkType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Code => "code",
            Self::Mixed => "mixed",
        }
    }
}

/// Where a chunk comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The kind of source.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// The URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// A repository on GitHub or another forge.
    Github,
    /// A web page.
    Web,
    /// A file.
    File,
    /// Submitted by a program through an API.
    Api,
}

impl SourceType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Web => "web",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// The position of a chunk in its source; start ≤ end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// The first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u32>,
    /// The last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// The offset of the first character.
    pub start_char: u32,
    /// The offset after the last character.
    pub end_char: u32,
    /// The index of the chunk among the chunks of its source.
    pub chunk_index: u32,
}

/// Properties of a chunk as code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeMetadata {
    /// The programming language.
    pub language: String,
    /// Whether the content is code.
    pub is_code: bool,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Symbols defined in the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<String>>,
    /// Imports in the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// The parser's output; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ast_features: Option<Value>,
}

/// The project and data set that a chunk belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Organization {
    /// The project's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// The data set's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_id: Option<Uuid>,
    /// The data set's name in cognee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cognee_dataset: Option<String>,
    /// The chunk's visibility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// The visibility of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Visible to all users.
    Global,
    /// Visible to the members of the project.
    Project,
    /// Visible to one user.
    User,
}
