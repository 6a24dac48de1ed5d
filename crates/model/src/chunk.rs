//! The chunk: its fields as they are on the wire. How they are merged is not here.
//!
//! The wire form is one JSON object. Unknown fields inside `metadata` are kept; unknown fields elsewhere are an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::{Origin, Time, vector::Vector};

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
    #[serde(default, skip_serializing_if = "Embeddings::is_empty")]
    pub embeddings: Embeddings,
    /// Where the content comes from.
    pub source: Source,
    /// The position of the content in its source.
    pub location: Location,
    /// Properties of the content as code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_metadata: Option<CodeMetadata>,
    /// Entities and relationships in the knowledge graph.
    #[serde(default, skip_serializing_if = "Graph::is_empty")]
    pub graph: Graph,
    /// The project and data set that the chunk belongs to.
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

/// The vectors of a chunk. On the wire `dense` is one object, or an array with one object per model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embeddings {
    /// One vector per model, in ascending order of model name.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<Dense>,
    /// The sparse vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Sparse>,
    /// Computed: the newest vector of the same model by another writer, if two writers disagree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_alternative: Option<Dense>,
    /// Computed: `keep_both` if there is an alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_resolution: Option<String>,
    /// Computed: the writer of the dense vector for which there is an alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_source: Option<String>,
    /// Computed: the writer of the alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternative_source: Option<String>,
}

impl Embeddings {
    /// Whether serialisation may omit the field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dense.is_empty() && self.sparse.is_none() && self.dense_alternative.is_none()
    }
}

/// A dense vector and the model that computed it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dense {
    /// The model's configured name.
    pub model: String,
    /// The numbers as published, not normalised. On the wire `vector` (an array of numbers) or `vector_b64` (base64 of
    /// little-endian f32); serialisation writes `vector_b64`.
    #[serde(rename = "vector_b64")]
    pub vector: Vector,
    /// When the vector was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
}

impl<'de> Deserialize<'de> for Dense {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            model: String,
            vector: Option<Vec<f32>>,
            vector_b64: Option<Vector>,
            timestamp: Option<Time>,
        }
        let wire = Wire::deserialize(deserializer)?;
        let vector = match (wire.vector, wire.vector_b64) {
            (Some(numbers), None) => Vector::from(numbers),
            (None, Some(vector)) => vector,
            (None, None) => return Err(serde::de::Error::missing_field("vector")),
            (Some(_), Some(_)) => {
                return Err(serde::de::Error::custom("both `vector` and `vector_b64` are present; send one of them"));
            }
        };
        Ok(Self { model: wire.model, vector, timestamp: wire.timestamp })
    }
}

/// A sparse vector and the model that computed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparse {
    /// The model's name; any string.
    pub model: String,
    /// Unique, ascending, each below [`crate::limits::SPARSE_SIZE`]. Input may be in any order.
    pub indices: Vec<u32>,
    /// One finite value per index.
    pub values: Vec<f32>,
    /// When the vector was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
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

/// The entities and relationships that a chunk mentions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Graph {
    /// The id of the chunk's node in another system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// The entities mentioned in the content; ids are unique.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// Relationships between them; both ends are in `entities`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relationships: Vec<Relationship>,
}

impl Graph {
    /// Whether serialisation may omit the field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.node_id.is_none() && self.entities.is_empty() && self.relationships.is_empty()
    }

    /// Removes relationships with an end that is not in `entities`.
    pub(crate) fn drop_dangling(&mut self) {
        let entities = &self.entities;
        let there = |id: &String| entities.iter().any(|entity| entity.id == *id);
        self.relationships.retain(|r| there(&r.source_entity_id) && there(&r.target_entity_id));
    }
}

/// An entity mentioned in a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// 1 to 512 bytes. Chunks that use the same id mean the same entity.
    pub id: String,
    /// The kind of entity.
    #[serde(rename = "type")]
    pub kind: EntityType,
    /// The entity's name.
    pub name: String,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Offsets in the content at which the entity is mentioned, in characters.
    #[serde(default)]
    pub source_positions: Vec<u64>,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)* }

        impl $type {
            /// All variants, in the order of the record's format.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// Kinds of entities.
    EntityType {
        /// A person.
        Person = "person",
        /// A company, team or institution.
        Organization = "organization",
        /// A place.
        Location = "location",
        /// A function or method.
        Function = "function",
        /// A class or type.
        Class = "class",
        /// A variable or constant.
        Variable = "variable",
        /// Any other concept.
        Concept = "concept",
    }
}

names! {
    /// Kinds of relationships.
    RelationshipType {
        /// The source calls the target.
        Calls = "calls",
        /// The source imports the target.
        Imports = "imports",
        /// The source extends the target.
        Extends = "extends",
        /// The source implements the target.
        Implements = "implements",
        /// The source refers to the target.
        References = "references",
        /// The source contains the target.
        Contains = "contains",
        /// Any other relation.
        RelatedTo = "related_to",
    }
}

/// A relationship from one entity to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relationship {
    /// The id of the source entity.
    pub source_entity_id: String,
    /// The id of the target entity.
    pub target_entity_id: String,
    /// The kind of relationship.
    #[serde(rename = "type")]
    pub kind: RelationshipType,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Further properties; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
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

/// Times, and arbitrary further keys set by the writers.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// When the chunk was created; ≤ `updated_at`.
    pub created_at: Time,
    /// When the chunk was last changed.
    pub updated_at: Time,
    /// When the indexer last processed the chunk.
    pub indexed_at: Option<Time>,
    /// When cognee last processed the chunk.
    pub cognified_at: Option<Time>,
    /// How long the processing took, in milliseconds.
    pub processing_time_ms: Option<f64>,
    /// `quality_score` and every other key; `_chunk` is reserved.
    pub extra: BTreeMap<String, Value>,
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("created_at", &self.created_at)?;
        map.serialize_entry("updated_at", &self.updated_at)?;
        if let Some(time) = &self.indexed_at {
            map.serialize_entry("indexed_at", time)?;
        }
        if let Some(time) = &self.cognified_at {
            map.serialize_entry("cognified_at", time)?;
        }
        if let Some(millis) = &self.processing_time_ms {
            map.serialize_entry("processing_time_ms", millis)?;
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with created_at and updated_at")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                use serde::de::Error;
                let (mut created_at, mut updated_at) = (None, None);
                let (mut indexed_at, mut cognified_at, mut processing_time_ms) = (None, None, None);
                let mut extra = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "created_at" => created_at = Some(map.next_value()?),
                        "updated_at" => updated_at = Some(map.next_value()?),
                        "indexed_at" => indexed_at = map.next_value()?,
                        "cognified_at" => cognified_at = map.next_value()?,
                        "processing_time_ms" => processing_time_ms = map.next_value()?,
                        _ => {
                            let value = map.next_value()?;
                            extra.insert(key, value);
                        }
                    }
                }
                Ok(Metadata {
                    created_at: created_at.ok_or_else(|| A::Error::missing_field("created_at"))?,
                    updated_at: updated_at.ok_or_else(|| A::Error::missing_field("updated_at"))?,
                    indexed_at,
                    cognified_at,
                    processing_time_ms,
                    extra,
                })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

mod one_or_many {
    //! Serialises `dense` as an object if there is one vector, else as an array.

    use std::fmt;

    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{MapAccess, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Dense;

    pub(super) fn serialize<S: Serializer>(dense: &[Dense], serializer: S) -> Result<S::Ok, S::Error> {
        match dense {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Dense>, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Vec<Dense>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object {model, vector, timestamp} or an array of such objects")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Dense::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
