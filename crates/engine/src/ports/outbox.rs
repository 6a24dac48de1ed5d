//! The outbox: per store, the chunks whose newest version the store does not hold yet. A merge adds entries with the row
//! ([`Commit::outbox`](super::Commit::outbox)).

use std::collections::BTreeMap;

use async_trait::async_trait;
use chunk_sync_model::{SyncVersion, Target};
use uuid::Uuid;

use super::Fault;

/// An outbox entry: a state that has not been written to a store yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWrite {
    /// The chunk.
    pub id: Uuid,
    /// The store.
    pub target: Target,
    /// The version that the store must reach; the entry may already hold a newer one.
    pub version: SyncVersion,
}

/// The outbox entries of every store.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Adds outbox entries for chunks that were merged before; a chunk that already has one keeps the greater version.
    ///
    /// Not fenced: a process that lost the lease does no harm here. An unnecessary entry costs one more write of the
    /// recorded state, which its version guards; an entry that the late write of an old holder made necessary is
    /// recorded in the same way.
    async fn enqueue(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault>;

    /// Reads the outbox of a store, the oldest entries first, at most `limit`.
    async fn pending_writes(&self, target: Target, limit: usize) -> Result<Vec<PendingWrite>, Fault>;

    /// Removes outbox entries that were written, unless their version has risen since.
    ///
    /// Not fenced: it is called after the store confirmed that version, which stays true regardless of the holder of
    /// the lease.
    async fn drained(&self, pending_writes: &[PendingWrite]) -> Result<(), Fault>;

    /// The number of outbox entries of each store.
    async fn outbox_counts(&self) -> Result<BTreeMap<Target, u64>, Fault>;
}
