//! The stores beside the system of record: how the engine writes to them and reads them back, and what they guarantee.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_model::document::Document;
use chunk_sync_model::{State, SyncVersion, Target};
use uuid::Uuid;

use super::Fault;

/// A state that a store must hold from now on, unless it holds a newer one.
#[derive(Clone, Debug)]
pub struct Write {
    /// The chunk.
    pub id: Uuid,
    /// The version of the state.
    pub version: SyncVersion,
    /// The state; `None` deletes.
    pub state: Option<Arc<State>>,
    /// The version since which no vector has changed: a store that holds it, or a newer one, may leave its vectors as
    /// they are. It equals the version of the state if the vectors changed with it, or if that is not known.
    pub vectors_since: SyncVersion,
}

impl Write {
    /// Whether a store that holds `held` may leave the vectors as they are. Another program wrote a document of version
    /// zero, and one whose version is not below that of the write, together with its vectors.
    #[must_use]
    pub fn keeps_vectors(&self, held: SyncVersion) -> bool {
        held >= self.vectors_since && held > SyncVersion::default() && held < self.version
    }

    /// About how many bytes the write takes in memory and in a message.
    #[must_use]
    pub fn weight(&self) -> usize {
        64 + self.state.as_ref().map_or(0, |state| state.chunk.weight())
    }
}

/// The result of one write.
#[derive(Clone, Debug)]
pub enum Applied {
    /// The store holds the state durably.
    Written,
    /// The store held that version or a newer one already; nothing was written.
    Skipped,
    /// The write failed; it may or may not have been executed, and can be repeated.
    Failed(Fault),
}

impl Applied {
    /// Whether the store holds this state or a newer one.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Written | Self::Skipped)
    }
}

/// What a store holds of a chunk, read back from it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDocument {
    /// The chunk.
    pub id: Uuid,
    /// The version in the store; zero if another program wrote the chunk there.
    pub version: SyncVersion,
    /// The document, rebuilt from the stored content.
    pub document: Document,
}

/// A page of stored documents.
#[derive(Clone, Debug, Default)]
pub struct DocumentPage {
    /// In ascending order of id (as bytes).
    pub documents: Vec<StoredDocument>,
    /// Whether the store holds no chunk above these.
    pub is_last: bool,
}

/// How much a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of chunks.
    pub chunks: u64,
    /// The numbers of other objects by name: `entities`, `entity_links`, `relations` in the graph.
    pub others: BTreeMap<&'static str, u64>,
}

/// A store beside the system of record: it holds what the merges of the rows led to.
///
/// - **Order**: a store never goes back. A write whose version is not above the one held changes nothing. A store that
///   removes deleted chunks forgets their versions too; the caller must then prevent an older write from reviving the
///   chunk.
/// - **Repetition**: any write may be repeated, also after its answer was lost.
/// - **Durability**: `Written` and `Skipped` mean that the state survives a crash of the store.
/// - **Batches**: ids in a batch are distinct, and each write has its own answer. A store plans the requests for a
///   batch by the limits that it knows, and repeats none in parts. If a request with several writes fails as a whole,
///   and fewer of them could succeed, each of its writes gets the fault, marked as [`divisible`](Fault::divisible);
///   [`apply_divided`](crate::apply_divided) repeats them in halves, for every store and caller. A fault without the
///   mark is of this write, or of the server.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Which of the stores this is.
    fn target(&self) -> Target;

    /// Creates what is missing (tables, collection, constraints), and fails if an object exists in another form. Safe
    /// to repeat.
    async fn prepare(&self) -> Result<(), Fault>;

    /// Applies the writes; returns one result each, in their order. To isolate a write that is refused, call
    /// [`apply_divided`](crate::apply_divided).
    async fn apply(&self, writes: &[Write]) -> Vec<Applied>;

    /// Reads these chunks with their documents, in their order; `None` where the store does not hold the chunk.
    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault>;

    /// Reads the next chunks in ascending order of id (as bytes), from the first one above `after`: at most `limit`, and
    /// fewer where documents are long, so that a page stays small in memory. Only the last page may be empty.
    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault>;

    /// The document that the store would return if it held `state`.
    fn expect(&self, state: &State) -> Document;

    /// Counts the chunks and other objects.
    async fn counts(&self) -> Result<Counts, Fault>;

    /// Succeeds if the store can be written to.
    async fn check(&self) -> Result<(), Fault>;
}
