//! The vectors of a chunk.

use serde::{Deserialize, Deserializer, Serialize};

use super::object;
use crate::{Time, vector::Vector};

/// The vectors of a chunk. On the wire `dense` is one object, or an array with one object per model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embeddings {
    /// One vector per model, in ascending order of model name.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<Dense>,
    /// The sparse vector.
    #[serde(deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
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
        let wire: Wire = object::one(deserializer)?;
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
