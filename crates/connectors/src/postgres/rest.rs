//! The fields of a chunk that have no column: an object under the reserved key `_chunk` of the row's metadata.
//!
//! It is flat, so that no value is nested deeper than in the chunk's own JSON. A value in a column takes precedence
//! over the same value here.

use chunk_sync_model::Time;
use chunk_sync_model::chunk::{Relationship, Scope};
use chunk_sync_model::version::Origin;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::cell::Indexed;

/// The reserved key.
pub(super) const KEY: &str = "_chunk";

macro_rules! rest {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// Other programs may write anything here: a value that does not parse counts as missing.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub(super) struct Rest {
            $(
                $(#[$doc])*
                #[serde(deserialize_with = "sensible", skip_serializing_if = "Option::is_none")]
                pub(super) $name: Option<$type>,
            )*
        }
    };
}

rest! {
    system_origin: Origin,
    repo: String,
    branch: String,
    commit: String,
    chunk_index: u32,
    /// Numbers too large for their columns.
    start_line: u32,
    end_line: u32,
    start_char: u32,
    end_char: u32,
    symbols: Vec<String>,
    imports: Vec<String>,
    ast_features: Value,
    /// The exact number when its column rounds it.
    confidence: f64,
    relationships: Vec<Relationship>,
    cognee_dataset: String,
    scope: Scope,
    dense_timestamp: Time,
    /// The models whose vectors are in `chunk_sync.embeddings`.
    further: Vec<String>,
    /// The model of the alternative vector in that table.
    alternative: String,
    conflict_resolution: String,
    primary_source: String,
    alternative_source: String,
    sparse_model: String,
    sparse_timestamp: Time,
    /// A sparse vector that its column cannot hold.
    sparse: Indexed,
    embedding_stale: bool,
}

impl Rest {
    pub(super) fn from_json(value: Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }
}

fn sensible<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(T::deserialize(Value::deserialize(deserializer)?).ok())
}
