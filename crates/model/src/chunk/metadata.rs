//! The times of a chunk, and the further keys that its writers set.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::Time;

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
