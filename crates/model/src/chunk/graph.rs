//! The entities and relationships of a chunk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object;

/// The entities and relationships that a chunk mentions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Graph {
    /// The id of the chunk's node in another system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// The entities mentioned in the content; ids are unique.
    #[serde(deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// Relationships between them; both ends are in `entities`.
    #[serde(deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
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
