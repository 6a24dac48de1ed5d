//! The vectors in SQLite: a payload per chunk and its vectors as blobs, in a form that any SQLite client can read.
//!
//! A dense vector is a `BLOB` of little-endian f32, normalised as in Qdrant. A sparse one is a sequence of pairs, a
//! little-endian u32 index and a little-endian f32 value, in ascending order of index.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Applied, Counts, DocumentPage, Fault, FaultClass, Projection, READ_BYTES, StoredDocument, Write,
};
use chunk_sync_model::document::{Document, SPARSE_VECTOR, VectorDocument};
use chunk_sync_model::{Limits, State, SyncVersion, Target};
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::database::{Database, Durability};
use super::fault::Error;
use super::values::{ids_above, version};

const WRITE: &str = "embedded vectors: write";
const READ: &str = "embedded vectors: read";

/// The points: payloads and vectors.
pub struct Vectors {
    database: Arc<Database>,
    limits: Arc<Limits>,
}

impl Vectors {
    pub(super) fn new(database: Arc<Database>, limits: Arc<Limits>) -> Self {
        Self { database, limits }
    }
}

#[async_trait]
impl Projection for Vectors {
    fn target(&self) -> Target {
        Target::Qdrant
    }

    async fn prepare(&self) -> Result<(), Fault> {
        // The tables were created when the file was opened.
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let limits = Arc::clone(&self.limits);
        self.database.apply(WRITE, writes, move |transaction, write| apply(transaction, &limits, write)).await
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let ids = ids.to_vec();
        self.database.read(READ, move |transaction| ids.iter().map(|id| looked(transaction, *id)).collect()).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let ids = ids_above(transaction, "SELECT id FROM points", after, limit)?;
            let (is_end, mut ids) = (ids.len() < limit, ids.into_iter());
            let (mut documents, mut bytes) = (Vec::new(), 0);
            while bytes < READ_BYTES
                && let Some(id) = ids.next()
            {
                let document = looked(transaction, id)?;
                bytes += document.as_ref().map_or(0, weight);
                documents.extend(document);
            }
            Ok(DocumentPage { documents, is_last: is_end && ids.len() == 0 })
        };
        self.database.read(READ, work).await
    }

    fn expect(&self, state: &State) -> Document {
        Document::Vectors(VectorDocument::of(state, &self.limits))
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let sql = "SELECT count(*) FROM points";
            Ok(transaction.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
        };
        Ok(Counts { chunks: self.database.read(READ, work).await?, others: BTreeMap::new() })
    }

    async fn check(&self) -> Result<(), Fault> {
        self.database.write("embedded vectors: check", Durability::Lazy, |_| Ok(())).await
    }
}

/// About how many bytes the texts and vectors of a document take.
fn weight(stored: &StoredDocument) -> usize {
    let Document::Vectors(document) = &stored.document else { return 0 };
    let texts = document.payload.values().filter_map(serde_json::Value::as_str).map(str::len);
    let vectors = document.dense.values().map(|vector| vector.len() * size_of::<f32>());
    texts.chain(vectors).sum()
}

/// Refuses a vector that the document cannot hold: [`VectorDocument::of`] would drop it silently.
fn check(state: &State, limits: &Limits) -> Result<(), Fault> {
    for dense in &state.chunk.embeddings.dense {
        let Some(model) = limits.model(&dense.model) else { continue };
        let refuse = |message| Err(Fault::new(FaultClass::Rejected, WRITE, message).at("chunk.embeddings.dense"));
        let (name, found) = (&dense.model, dense.vector.len());
        if found != model.size {
            return refuse(format!(
                "the vector of `{name}` has {found} numbers; the model is configured with {}",
                model.size
            ));
        }
        if dense.vector.iter().any(|number| !number.is_finite()) {
            return refuse(format!("the vector of `{name}` contains NaN or infinity; publish finite numbers"));
        }
    }
    Ok(())
}

fn apply(transaction: &Transaction<'_>, limits: &Limits, write: &Write) -> Result<Applied, Error> {
    let mut statement = transaction.prepare_cached("SELECT sync_version FROM points WHERE id = ?1")?;
    let held: Option<SyncVersion> = statement.query_row([write.id], |row| Ok(version(row.get(0)?))).optional()?;
    if held.is_some_and(|held| held.keeps_out(write.version)) {
        return Ok(Applied::Skipped);
    }
    let Some(state) = &write.state else {
        remove_vectors(transaction, write.id)?;
        transaction.prepare_cached("DELETE FROM points WHERE id = ?1")?.execute([write.id])?;
        return Ok(Applied::Written);
    };
    if let Err(fault) = check(state, limits) {
        return Ok(Applied::Failed(fault));
    }
    let document = VectorDocument::of(state, limits);
    set_payload(transaction, write, &document)?;
    if held.is_some_and(|held| write.keeps_vectors(held)) {
        let sql = "UPDATE vectors SET sync_version = ?2 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute(params![write.id, write.version.signed()])?;
    } else {
        set_vectors(transaction, write, &document)?;
    }
    Ok(Applied::Written)
}

fn set_payload(transaction: &Transaction<'_>, write: &Write, document: &VectorDocument) -> Result<(), Error> {
    let payload = serde_json::to_string(&document.payload)
        .map_err(|error| Error::Unreadable("the JSON of a payload", format!("{}: {error}", write.id)))?;
    let sql = "INSERT INTO points (id, sync_version, payload) VALUES (?1, ?2, ?3)
        ON CONFLICT (id) DO UPDATE SET sync_version = excluded.sync_version, payload = excluded.payload";
    transaction.prepare_cached(sql)?.execute(params![write.id, write.version.signed(), payload])?;
    Ok(())
}

fn set_vectors(transaction: &Transaction<'_>, write: &Write, document: &VectorDocument) -> Result<(), Error> {
    remove_vectors(transaction, write.id)?;
    let sql = "INSERT INTO vectors (id, name, sync_version, vector) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = transaction.prepare_cached(sql)?;
    for (name, vector) in &document.dense {
        statement.execute(params![write.id, name, write.version.signed(), dense_blob(vector)])?;
    }
    if let Some((indices, values)) = &document.sparse {
        let blob = sparse_blob(indices, values);
        statement.execute(params![write.id, SPARSE_VECTOR, write.version.signed(), blob])?;
    }
    Ok(())
}

fn remove_vectors(transaction: &Transaction<'_>, id: Uuid) -> Result<(), Error> {
    transaction.prepare_cached("DELETE FROM vectors WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Builds the document of a chunk from the tables; `None` when the chunk is not stored.
fn looked(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<StoredDocument>, Error> {
    let sql = "SELECT sync_version, payload FROM points WHERE id = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let point = statement.query_row([id], |row| Ok((version(row.get(0)?), row.get::<_, String>(1)?))).optional()?;
    let Some((version, payload)) = point else {
        return Ok(None);
    };
    let unreadable = |what, error: String| Error::Unreadable(what, format!("{id}: {error}"));
    let payload =
        serde_json::from_str(&payload).map_err(|error| unreadable("the payload of a point", error.to_string()))?;
    let mut document = VectorDocument { dense: BTreeMap::new(), sparse: None, payload };
    let mut statement = transaction.prepare_cached("SELECT name, vector FROM vectors WHERE id = ?1")?;
    let vectors = statement.query_map([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    for vector in vectors {
        let (name, blob) = vector?;
        let damaged = || unreadable("a vector", format!("`{name}` has {} bytes", blob.len()));
        if name == SPARSE_VECTOR {
            document.sparse = Some(sparse_of(&blob).ok_or_else(damaged)?);
        } else {
            let vector = dense_of(&blob).ok_or_else(damaged)?;
            document.dense.insert(name, vector);
        }
    }
    Ok(Some(StoredDocument { id, version, document: Document::Vectors(document) }))
}

fn dense_blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn dense_of(blob: &[u8]) -> Option<Vec<f32>> {
    let (numbers, []) = blob.as_chunks() else { return None };
    Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn sparse_blob(indices: &[u32], values: &[f32]) -> Vec<u8> {
    let mut pairs: Vec<(u32, f32)> = indices.iter().copied().zip(values.iter().copied()).collect();
    pairs.sort_unstable_by_key(|(index, _)| *index);
    pairs.into_iter().flat_map(|(index, value)| [index.to_le_bytes(), value.to_le_bytes()].concat()).collect()
}

fn sparse_of(blob: &[u8]) -> Option<(Vec<u32>, Vec<f32>)> {
    let (words, []) = blob.as_chunks::<4>() else { return None };
    let (pairs, []) = words.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[index, value]| (u32::from_le_bytes(*index), f32::from_le_bytes(*value))).unzip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_stored_as_little_endian_numbers() {
        assert_eq!(dense_blob(&[1.0, -2.0]), [0, 0, 128, 63, 0, 0, 0, 192]);
        assert_eq!(dense_of(&dense_blob(&[0.25, 3.5])), Some(vec![0.25, 3.5]));
        assert_eq!(dense_of(&[0; 5]), None);
    }

    #[test]
    fn sparse_vectors_are_pairs_in_ascending_order_of_index() {
        let blob = sparse_blob(&[258, 7], &[1.0, 2.0]);
        assert_eq!(blob, [7, 0, 0, 0, 0, 0, 0, 64, 2, 1, 0, 0, 0, 0, 128, 63]);
        assert_eq!(sparse_of(&blob), Some((vec![7, 258], vec![2.0, 1.0])));
        assert_eq!(sparse_of(&[]), Some((Vec::new(), Vec::new())));
        assert_eq!(sparse_of(&[0; 12]), None);
    }
}
