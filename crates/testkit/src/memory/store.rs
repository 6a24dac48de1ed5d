//! A store in memory: for each chunk the document that the real store would hold, and its version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, FaultClass, Projection, StoredDocument, Write};
use chunk_sync_model::document::{Document, GraphDocument, VectorDocument};
use chunk_sync_model::{Limits, State, SyncVersion, Target};
use uuid::Uuid;

/// A store of any kind in memory. Its clones hold the same chunks.
#[derive(Clone)]
pub struct MemoryStore {
    target: Target,
    limits: Arc<Limits>,
    held: Arc<Mutex<BTreeMap<Uuid, Stored>>>,
}

#[derive(Clone)]
struct Stored {
    version: SyncVersion,
    document: Document,
}

/// What a store held at one moment.
pub struct Backup(BTreeMap<Uuid, Stored>);

impl MemoryStore {
    /// An empty store of that kind, with vectors of the models in `limits`.
    #[must_use]
    pub fn new(target: Target, limits: Limits) -> Self {
        Self { target, limits: Arc::new(limits), held: Arc::default() }
    }

    /// Writes a state, or removes the chunk, without any version check, as a foreign client would.
    pub fn tamper(&self, id: Uuid, version: SyncVersion, state: Option<&Arc<State>>) {
        let mut held = self.held.lock().unwrap();
        match state {
            Some(state) => held.insert(id, Stored { version, document: self.document(state) }),
            None => held.remove(&id),
        };
    }

    /// A copy of what it holds.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.held.lock().unwrap().clone())
    }

    /// Goes back to what it held when the backup was made.
    pub fn restore(&self, backup: Backup) {
        *self.held.lock().unwrap() = backup.0;
    }

    fn document(&self, state: &Arc<State>) -> Document {
        match self.target {
            Target::Postgres => Document::Row(Arc::clone(state)),
            Target::Qdrant => Document::Vectors(VectorDocument::of(state, &self.limits)),
            Target::Neo4j => Document::Graph(GraphDocument::of(state)),
        }
    }

    fn apply_one(&self, held: &mut BTreeMap<Uuid, Stored>, write: &Write) -> Applied {
        let there = held.get(&write.id);
        if there.is_some_and(|there| there.version.keeps_out(write.version)) {
            return Applied::Skipped;
        }
        let Some(state) = &write.state else {
            held.remove(&write.id);
            return Applied::Written;
        };
        let mut document = self.document(state);
        if let Document::Vectors(new) = &mut document {
            if let Err(fault) = check(state, &self.limits) {
                return Applied::Failed(fault);
            }
            keep_vectors(there, write, new);
        }
        held.insert(write.id, Stored { version: write.version, document });
        Applied::Written
    }
}

/// Trusts `vectors_since`: if no vector has changed since the held version, the held ones stay. A wrong one thus leaves old
/// vectors, which tests detect.
fn keep_vectors(held: Option<&Stored>, write: &Write, new: &mut VectorDocument) {
    if let Some(Stored { version, document: Document::Vectors(old) }) = held
        && write.keeps_vectors(*version)
    {
        new.dense.clone_from(&old.dense);
        new.sparse.clone_from(&old.sparse);
    }
}

fn check(state: &State, limits: &Limits) -> Result<(), Fault> {
    for dense in &state.chunk.embeddings.dense {
        let (name, length) = (&dense.model, dense.vector.len());
        if let Some(model) = limits.model(name).filter(|model| model.size != length) {
            let message = format!("the vector of `{name}` has {length} numbers; the model has {}", model.size);
            return Err(Fault::new(FaultClass::Rejected, "memory", message).at("chunk.embeddings.dense"));
        }
    }
    Ok(())
}

impl Stored {
    fn looked(&self, id: Uuid) -> StoredDocument {
        StoredDocument { id, version: self.version, document: self.document.clone() }
    }
}

/// All ids above `after`.
pub(super) fn above(after: Option<Uuid>) -> (Bound<Uuid>, Bound<Uuid>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn graph_counts<'a>(graphs: impl Iterator<Item = &'a GraphDocument>) -> BTreeMap<&'static str, u64> {
    let (mut entities, mut links, mut relations) = (BTreeSet::new(), 0, BTreeSet::new());
    for graph in graphs {
        entities.extend(graph.entities.keys());
        links += graph.entities.len() as u64;
        relations.extend(graph.relations.iter().map(|r| (&r.source, &r.target, &r.kind)));
    }
    BTreeMap::from([
        ("entities", entities.len() as u64),
        ("entity_links", links),
        ("relations", relations.len() as u64),
    ])
}

#[async_trait]
impl Projection for MemoryStore {
    fn target(&self) -> Target {
        self.target
    }

    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let mut held = self.held.lock().unwrap();
        writes.iter().map(|write| self.apply_one(&mut held, write)).collect()
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let held = self.held.lock().unwrap();
        Ok(ids.iter().map(|id| held.get(id).map(|held| held.looked(*id))).collect())
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let held = self.held.lock().unwrap();
        let documents: Vec<_> = held.range(above(after)).take(limit).map(|(id, held)| held.looked(*id)).collect();
        Ok(DocumentPage { is_last: documents.len() < limit, documents })
    }

    fn expect(&self, state: &State) -> Document {
        match self.target {
            Target::Postgres => Document::Row(Arc::new(state.clone())),
            Target::Qdrant => Document::Vectors(VectorDocument::of(state, &self.limits)),
            Target::Neo4j => Document::Graph(GraphDocument::of(state)),
        }
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let held = self.held.lock().unwrap();
        let graphs = held.values().filter_map(|held| match &held.document {
            Document::Graph(document) => Some(document),
            Document::Row(_) | Document::Vectors(_) => None,
        });
        let others = if self.target == Target::Neo4j { graph_counts(graphs) } else { BTreeMap::new() };
        Ok(Counts { chunks: held.len() as u64, others })
    }

    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}
