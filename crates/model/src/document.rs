//! Documents: the projection of a state onto each store, and fingerprints to compare documents.
//!
//! A connector writes the document of a state. On a read it rebuilds the document from the stored data. Equal documents
//! have equal fingerprints; the fingerprints of different documents show which fields differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::chunk::State;
use crate::hash::content_hash;

mod exact;
mod fingerprint;
mod numbers;
mod vector;

pub use fingerprint::Fingerprint;
pub use numbers::round_numbers;
pub use vector::{ALTERNATIVE_VECTOR, PAYLOAD_KEYS, SPARSE_VECTOR, VectorDocument};

/// A chunk as one store holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A row in the system of record.
    Row(Arc<State>),
    /// A point in Qdrant.
    Vectors(VectorDocument),
    /// A node in Neo4j with its relationships.
    Graph(GraphDocument),
}

impl Document {
    /// The names of the fields that differ between two documents, in ascending order. Fields are hashed only if the
    /// documents are not equal to the last bit.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let is_same = match (self, other) {
            (Self::Vectors(one), Self::Vectors(other)) => exact::same_vectors(one, other),
            (Self::Graph(one), Self::Graph(other)) => exact::same_graphs(one, other),
            _ => false,
        };
        if is_same { Vec::new() } else { self.fingerprint().differing(&other.fingerprint()) }
    }

    /// The hash of each field of the document.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Row(state) => row_fingerprint(state),
            Self::Vectors(document) => document.fingerprint(),
            Self::Graph(document) => document.fingerprint(),
        }
    }
}

/// The fingerprint of a row, which holds every field of the chunk.
#[must_use]
pub fn row_fingerprint(state: &State) -> Fingerprint {
    let chunk = &state.chunk;
    let mut fields: BTreeMap<_, _> =
        chunk.parts().into_iter().map(|(part, value)| (part.to_string(), value.hash())).collect();
    fields.insert("system_origin".into(), Hash::of_json(&chunk.system_origin));
    let metadata = &chunk.metadata;
    fields.insert("metadata.created_at".into(), Hash::of_json(&metadata.created_at));
    fields.insert("metadata.updated_at".into(), Hash::of_json(&metadata.updated_at));
    for (name, time) in [("metadata.indexed_at", metadata.indexed_at), ("metadata.cognified_at", metadata.cognified_at)]
    {
        fields.extend(time.map(|time| (name.into(), Hash::of_json(&time))));
    }
    fields.extend(metadata.processing_time_ms.map(|ms| ("metadata.processing_time_ms".into(), Hash::of_json(&ms))));
    if let Some(alternative) = &chunk.embeddings.dense_alternative {
        fields.insert("embeddings.dense_alternative".into(), Hash::of_json(alternative));
    }
    fields.insert("embedding_stale".into(), Hash::of_json(&state.embedding_stale));
    Fingerprint(fields)
}

/// What Neo4j holds: a chunk's node, its data set and project, and the entities and relations that it mentions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphDocument {
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub content_hash: String,
    /// The wire name of the chunk's type.
    pub chunk_type: String,
    /// The wire name of the source's type.
    pub source_type: String,
    /// The wire name of the chunk's origin.
    pub system_origin: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// `dataset_id`, else `cognee_dataset`.
    pub dataset: Option<String>,
    /// The id of the project that the data set is part of.
    pub project: Option<String>,
    /// The entities by id, with this chunk's mention of each.
    pub entities: BTreeMap<String, Mention>,
    /// The relations that this chunk supports.
    pub relations: Vec<Relation>,
}

/// A chunk's mention of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// The entity's name.
    pub name: String,
    /// The wire name of an [`EntityType`](crate::chunk::EntityType).
    #[serde(rename = "type")]
    pub kind: String,
    /// Confidence, 0 to 1.
    pub confidence: f64,
    /// Offsets in the content at which the entity is mentioned, in characters.
    pub positions: Vec<u64>,
}

/// A relation between two entities that a chunk supports.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Relation {
    /// The id of the source entity.
    pub source: String,
    /// The id of the target entity.
    pub target: String,
    /// The wire name of a [`RelationshipType`](crate::chunk::RelationshipType).
    #[serde(rename = "type")]
    pub kind: String,
    /// Confidence, 0 to 1.
    pub confidence: f64,
}

impl GraphDocument {
    /// The document of `state` for Neo4j.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let chunk = &state.chunk;
        let organization = &chunk.organization;
        let mention = |e: &crate::chunk::Entity| Mention {
            name: e.name.clone(),
            kind: e.kind.as_str().into(),
            confidence: e.confidence,
            positions: e.source_positions.clone(),
        };
        let mut relations: Vec<_> = chunk
            .graph
            .relationships
            .iter()
            .map(|r| Relation {
                source: r.source_entity_id.clone(),
                target: r.target_entity_id.clone(),
                kind: r.kind.as_str().into(),
                confidence: r.confidence,
            })
            .collect();
        sort_relations(&mut relations);
        Self {
            content_hash: content_hash(&chunk.content),
            chunk_type: chunk.chunk_type.as_str().into(),
            source_type: chunk.source.kind.as_str().into(),
            system_origin: chunk.system_origin.as_str().into(),
            created_at: chunk.metadata.created_at.to_string(),
            updated_at: chunk.metadata.updated_at.to_string(),
            dataset: organization.dataset_id.map(|id| id.to_string()).or_else(|| organization.cognee_dataset.clone()),
            project: organization.project_id.map(|id| id.to_string()),
            entities: chunk.graph.entities.iter().map(|e| (e.id.clone(), mention(e))).collect(),
            relations,
        }
    }

    /// One field per property of the node, and one each for `dataset`, all entities and all relations.
    ///
    /// The project is not a field: chunks share a data set, and a data set belongs to the one project that the last
    /// written chunk gave.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fields = BTreeMap::from(
            [
                ("content_hash", &self.content_hash),
                ("chunk_type", &self.chunk_type),
                ("source_type", &self.source_type),
                ("system_origin", &self.system_origin),
                ("created_at", &self.created_at),
                ("updated_at", &self.updated_at),
            ]
            .map(|(name, value)| (name.to_owned(), Hash::of_json(value))),
        );
        fields.extend(self.dataset.iter().map(|dataset| ("dataset".to_owned(), Hash::of_json(dataset))));
        fields.insert("entities".into(), Hash::of_json(&self.entities));
        fields.insert("relations".into(), Hash::of_json(&self.relations));
        Fingerprint(fields)
    }
}

/// Sorts relations by source, target and kind, the order that documents use.
pub fn sort_relations(relations: &mut [Relation]) {
    relations.sort_by(|a, b| (&a.source, &a.target, &a.kind).cmp(&(&b.source, &b.target, &b.kind)));
}
