//! The chunk: its fields as they stand on the wire, and nothing about how they came to be.
//!
//! JSON, one object. Unknown fields inside `metadata` are kept; unknown fields elsewhere are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::{Origin, Time, vector::Vector};

/// A piece of text or code with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Identity in every store.
    pub id: Uuid,
    /// The system that made it; `hybrid` once two did.
    pub system_origin: Origin,
    /// The text itself.
    pub content: String,
    /// A shorter telling of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Text, code or both.
    pub chunk_type: ChunkType,
    /// Dense vectors by model, and the sparse one.
    #[serde(default, skip_serializing_if = "Embeddings::is_empty")]
    pub embeddings: Embeddings,
    /// Where it was found.
    pub source: Source,
    /// Where in its source it stands.
    pub location: Location,
    /// What is known of it as code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_metadata: Option<CodeMetadata>,
    /// Its place in the knowledge graph.
    #[serde(default, skip_serializing_if = "Graph::is_empty")]
    pub graph: Graph,
    /// Whose it is.
    pub organization: Organization,
    /// Times, and whatever else its writers say.
    pub metadata: Metadata,
}

/// A chunk as the stores are to hold it: its fields, and what the service found out about them.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The merged chunk.
    pub chunk: Chunk,
    /// An embedding that shows was made for another content than the one that shows.
    pub embedding_stale: bool,
}

/// What kind of content a chunk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkType {
    /// Prose.
    Text,
    /// Source code.
    Code,
    /// Both.
    Mixed,
}

impl ChunkType {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Code => "code",
            Self::Mixed => "mixed",
        }
    }
}

/// The vectors of a chunk. On the wire `dense` is one object or an array of them, one per model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embeddings {
    /// One per model, in the order of the models' names.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<Dense>,
    /// The sparse vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Sparse>,
    /// Computed: the newest vector of the same model by another writer, where two writers disagree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_alternative: Option<Dense>,
    /// Computed: `keep_both` where there is an alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_resolution: Option<String>,
    /// Computed: the writer of the dense vector that has an alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_source: Option<String>,
    /// Computed: the writer of the alternative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternative_source: Option<String>,
}

impl Embeddings {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dense.is_empty() && self.sparse.is_none() && self.dense_alternative.is_none()
    }
}

/// A dense vector and the model that made it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dense {
    /// The model's configured name.
    pub model: String,
    /// The numbers as the writer gave them, not normalised; on the wire `vector`, or `vector_b64` (what we write).
    #[serde(rename = "vector_b64")]
    pub vector: Vector,
    /// When it was made.
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
                return Err(serde::de::Error::custom("give `vector` or `vector_b64`, not both"));
            }
        };
        Ok(Self { model: wire.model, vector, timestamp: wire.timestamp })
    }
}

/// A sparse vector and the model that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparse {
    /// The model's name, any.
    pub model: String,
    /// Unique, each below [`crate::limits::SPARSE_SIZE`]; kept in ascending order.
    pub indices: Vec<u32>,
    /// One for each index.
    pub values: Vec<f32>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Time>,
}

/// Where a chunk was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What kind of place.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file.
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

/// Kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// A repository on a forge.
    Github,
    /// A web page.
    Web,
    /// A file.
    File,
    /// Handed in by a program.
    Api,
}

impl SourceType {
    /// Its name on the wire.
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

/// Where in its source a chunk stands; start ≤ end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// First line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<u32>,
    /// Last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// First character.
    pub start_char: u32,
    /// The character after the last.
    pub end_char: u32,
    /// Which chunk of its source it is.
    pub chunk_index: u32,
}

/// What is known of a chunk as code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeMetadata {
    /// The programming language.
    pub language: String,
    /// Whether it is code at all.
    pub is_code: bool,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// What it defines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<String>>,
    /// What it imports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// Whatever the parser found; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ast_features: Option<Value>,
}

/// A chunk's place in the knowledge graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Graph {
    /// The node another system keeps for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// What it speaks of; each id once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// How those hang together; both ends are in `entities`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relationships: Vec<Relationship>,
}

impl Graph {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.node_id.is_none() && self.entities.is_empty() && self.relationships.is_empty()
    }

    /// Takes away the relationships of which an end is not there.
    pub(crate) fn drop_dangling(&mut self) {
        let entities = &self.entities;
        let there = |id: &String| entities.iter().any(|entity| entity.id == *id);
        self.relationships.retain(|r| there(&r.source_entity_id) && there(&r.target_entity_id));
    }
}

/// A thing that a chunk speaks of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// 1 to 512 bytes; the same id in two chunks is the same thing.
    pub id: String,
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: EntityType,
    /// What it is called.
    pub name: String,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// Where in the content it is named, in characters.
    #[serde(default)]
    pub source_positions: Vec<u64>,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)* }

        impl $type {
            /// Every one, in the order of the record's format.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// Kinds of things.
    EntityType {
        /// A human being.
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
        /// Anything else worth a name.
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
        /// Some other tie.
        RelatedTo = "related_to",
    }
}

/// How one entity hangs together with another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relationship {
    /// From.
    pub source_entity_id: String,
    /// To.
    pub target_entity_id: String,
    /// How.
    #[serde(rename = "type")]
    pub kind: RelationshipType,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
    /// Whatever else is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
}

/// Whose a chunk is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Organization {
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// The data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_id: Option<Uuid>,
    /// The data set's name in cognee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cognee_dataset: Option<String>,
    /// Who may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// Who may see a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everyone.
    Global,
    /// Whoever works on the project.
    Project,
    /// One user.
    User,
}

/// Times, and whatever else the writers say.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// When the chunk was made; ≤ `updated_at`.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// When the indexer last saw it.
    pub indexed_at: Option<Time>,
    /// When cognee last worked on it.
    pub cognified_at: Option<Time>,
    /// How long that took.
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
    //! `dense` is an object where there is one vector, an array where there are several.

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
                f.write_str("{model, vector, timestamp} or an array of them")
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
