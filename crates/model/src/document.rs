//! The projections: what each store holds of a state, and the fingerprint by which two of them are compared.
//!
//! A store writes the document of a state and, when it is read, makes the document again from what it really holds. Equal
//! documents have equal fingerprints, and where they differ the fingerprint names the fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chunk::State;
use crate::hash::content_hash;
use crate::{Hash, Limits};

/// The fields of a document by name, each with the hash of its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub BTreeMap<String, Hash>);

impl Fingerprint {
    /// One hash over all fields.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of_json(&self.0)
    }

    /// The names of the fields in which two documents differ, in order.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys()).collect::<std::collections::BTreeSet<_>>();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// What a store holds of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A row.
    Row(Arc<State>),
    /// A point.
    Vectors(VectorDocument),
    /// A node and what hangs on it.
    Graph(GraphDocument),
}

impl Document {
    /// Its fields.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Row(state) => row_fingerprint(state),
            Self::Vectors(document) => document.fingerprint(),
            Self::Graph(document) => document.fingerprint(),
        }
    }
}

/// What the rows hold: everything.
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

/// What Qdrant holds: named vectors, normalised, and a payload. The sync version is the store's own affair and no field.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorDocument {
    /// Dense vectors by their name in Qdrant, of length one.
    pub dense: BTreeMap<String, Vec<f32>>,
    /// The sparse vector: ascending indices, and as many values.
    pub sparse: Option<(Vec<u32>, Vec<f32>)>,
    /// The payload; keys without a value are left out.
    pub payload: Map<String, Value>,
}

/// The name of the sparse vector in Qdrant.
pub const SPARSE_VECTOR: &str = "sparse_splade";

/// The name of the vector that holds the alternative of a conflict kept both ways.
pub const ALTERNATIVE_VECTOR: &str = "dense_alternative";

impl VectorDocument {
    /// What Qdrant is to hold of `state`. Vectors of models that are not configured have no place there, nor has an
    /// alternative of another size than that of the first configured model.
    #[must_use]
    pub fn of(state: &State, limits: &Limits) -> Self {
        let chunk = &state.chunk;
        let fits = |d: &&crate::chunk::Dense| limits.model(&d.model).is_some_and(|m| m.size == d.vector.len());
        let mut dense: BTreeMap<_, _> = chunk
            .embeddings
            .dense
            .iter()
            .filter(fits)
            .filter_map(|d| Some((limits.model(&d.model)?.vector.clone(), d.vector.normalised())))
            .collect();
        let alternative_size = limits.models.first().map(|model| model.size);
        let alternative = chunk.embeddings.dense_alternative.as_ref();
        if let Some(other) = alternative.filter(|other| Some(other.vector.len()) == alternative_size) {
            dense.insert(ALTERNATIVE_VECTOR.into(), other.vector.normalised());
        }
        let sparse = chunk.embeddings.sparse.as_ref().map(|s| (s.indices.clone(), s.values.clone()));
        Self { dense, sparse, payload: payload(state) }
    }

    /// The fields: each vector by name, each payload key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fields = BTreeMap::new();
        for (name, vector) in &self.dense {
            fields.insert(name.clone(), hash_floats(&[], vector));
        }
        if let Some((indices, values)) = &self.sparse {
            fields.insert(SPARSE_VECTOR.into(), hash_floats(indices, values));
        }
        fields.extend(self.payload.iter().map(|(key, value)| (key.clone(), Hash::of_json(value))));
        Fingerprint(fields)
    }
}

fn hash_floats(indices: &[u32], values: &[f32]) -> Hash {
    let mut bytes: Vec<u8> = indices.iter().flat_map(|i| i.to_le_bytes()).collect();
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    Hash::of_bytes(&bytes)
}

fn payload(state: &State) -> Map<String, Value> {
    let chunk = &state.chunk;
    let organization = &chunk.organization;
    let code = chunk.code_metadata.as_ref();
    let fields = [
        ("content", Some(Value::from(chunk.content.as_str()))),
        ("summary", chunk.summary.as_deref().map(Value::from)),
        ("chunk_type", Some(chunk.chunk_type.as_str().into())),
        ("project_id", organization.project_id.map(|id| id.to_string().into())),
        ("dataset_id", organization.dataset_id.map(|id| id.to_string().into())),
        ("cognee_dataset", organization.cognee_dataset.as_deref().map(Value::from)),
        ("source_type", Some(chunk.source.kind.as_str().into())),
        ("language", code.map(|code| code.language.as_str().into())),
        ("is_code", code.map(|code| code.is_code.into())),
        ("system_origin", Some(chunk.system_origin.as_str().into())),
        ("created_at", Some(chunk.metadata.created_at.to_string().into())),
        ("updated_at", Some(chunk.metadata.updated_at.to_string().into())),
        ("path", chunk.source.path.as_deref().map(Value::from)),
        ("metadata", serde_json::to_value(&chunk.metadata).ok()),
        ("sparse_model", chunk.embeddings.sparse.as_ref().map(|sparse| sparse.model.as_str().into())),
        ("embedding_stale", state.embedding_stale.then_some(true.into())),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// What Neo4j holds: a chunk's node, where it belongs, and what it says of entities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphDocument {
    /// SHA-256 of the content, hexadecimal.
    pub content_hash: String,
    /// As in the chunk.
    pub chunk_type: String,
    /// As in the chunk.
    pub source_type: String,
    /// As in the chunk.
    pub system_origin: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// `dataset_id`, else `cognee_dataset`.
    pub dataset: Option<String>,
    /// The project that the data set is part of.
    pub project: Option<String>,
    /// The entities by id, with what this chunk says of each.
    pub entities: BTreeMap<String, Mention>,
    /// What this chunk is evidence for.
    pub relations: Vec<Relation>,
}

/// What a chunk says of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// What it is called.
    pub name: String,
    /// What kind of thing, a name of [`crate::chunk::EntityType`].
    #[serde(rename = "type")]
    pub kind: String,
    /// How sure that is.
    pub confidence: f64,
    /// Where in the content it is named.
    pub positions: Vec<u64>,
}

/// What a chunk says of two entities.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Relation {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// How, a name of [`crate::chunk::RelationshipType`].
    #[serde(rename = "type")]
    pub kind: String,
    /// How sure that is.
    pub confidence: f64,
}

impl GraphDocument {
    /// What Neo4j is to hold of `state`.
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

    /// The fields: the node's properties, `dataset`, and all entities and all relations as one field each.
    ///
    /// The project is not among them: data sets are shared, and one belongs to one project, whichever chunk said so last.
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

/// The one order that relations have in a document.
pub fn sort_relations(relations: &mut [Relation]) {
    relations.sort_by(|a, b| (&a.source, &a.target, &a.kind).cmp(&(&b.source, &b.target, &b.kind)));
}
