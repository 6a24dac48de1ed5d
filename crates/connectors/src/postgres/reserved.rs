//! The copy of what a merge wrote under the reserved key of `metadata`.
//!
//! Other programs replace `metadata` as a whole, and the key goes with it. Such a row states nothing about the fields that
//! the key held: it is read as if the copy still stood there, and a merge puts it back. The copy is beside the record and
//! goes with the chunk.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::Error;
use super::rest::KEY;
use super::row::RowImage;

/// What a merge wrote under the reserved key.
#[derive(Clone, Debug)]
pub(super) struct Reserved {
    pub(super) value: Value,
    /// Whether the table removed the key from the merge's own write: it is not put back again and again.
    pub(super) stripped: bool,
}

/// The copies by chunk.
pub(super) type Copies = HashMap<Uuid, Reserved>;

const COPIES: &str = "SELECT id, reserved, reserved_stripped FROM chunk_sync.records \
    WHERE id = ANY($1) AND lives AND reserved IS NOT NULL";

/// The copies of these chunks. Asks the server only if there are any ids.
pub(super) async fn copies(client: &impl GenericClient, ids: &[Uuid]) -> Result<Copies, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = client.prepare_cached(COPIES).await?;
    let mut copies = HashMap::new();
    for row in client.query(&statement, &[&ids]).await? {
        let text: &str = row.try_get(1)?;
        let value = serde_json::from_str(text).unwrap_or_default();
        copies.insert(row.try_get(0)?, Reserved { value, stripped: row.try_get(2)? });
    }
    Ok(copies)
}

/// Whether the row has no reserved key and could have one.
pub(super) fn is_missing(row: &RowImage) -> bool {
    match &row.metadata {
        None => true,
        Some(Value::Object(map)) => !map.contains_key(KEY),
        Some(_) => false,
    }
}

/// Sets the reserved key of a row that lacks it.
pub(super) fn fill(row: &mut RowImage, copy: &Reserved) {
    let metadata = row.metadata.get_or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(map) = metadata {
        map.insert(KEY.to_owned(), copy.value.clone());
    }
}

/// The copy of a row that a merge writes.
pub(super) fn of(row: &RowImage) -> Option<Reserved> {
    let value = row.metadata.as_ref()?.get(KEY)?.clone();
    Some(Reserved { value, stripped: false })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_without_the_key_gets_the_copy_and_keeps_its_own_keys() {
        let with = |metadata| RowImage { metadata, ..RowImage::default() };
        let copy = of(&with(Some(json!({"_chunk": {"chunk_index": 7}, "topic": "a"})))).unwrap();
        for (metadata, filled) in [
            (None, json!({"_chunk": {"chunk_index": 7}})),
            (Some(json!({"topic": "b"})), json!({"_chunk": {"chunk_index": 7}, "topic": "b"})),
        ] {
            let mut row = with(metadata);
            assert!(is_missing(&row));
            fill(&mut row, &copy);
            assert_eq!(row.metadata.unwrap(), filled);
        }
        assert!(!is_missing(&with(Some(json!(["a list has no keys"])))));
        assert!(!is_missing(&with(Some(json!({"_chunk": {}})))));
    }
}
