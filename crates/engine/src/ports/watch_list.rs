//! Chunks whose writes to a store may arrive late.

use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_model::Target;
use uuid::Uuid;

use super::Fault;

/// A chunk and a store that a write of the chunk may reach late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The chunk.
    pub id: Uuid,
    /// The store.
    pub target: Target,
}

/// The list of chunks that are read back for a while. Not fenced: a process that lost the lease can only cause another
/// look. Times are those of the system of record: the clock of a process may be wrong.
#[async_trait]
pub trait WatchList: Send + Sync {
    /// Lists chunks for that long from now; one that is listed already stays until the later time.
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault>;

    /// Lists every chunk of the outbox with its store.
    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault>;

    /// The next listed chunks of a store in ascending order of id, above `after`, at most `limit`. Fewer mean the end.
    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault>;

    /// Removes what was listed until a time that has passed; returns the number.
    async fn unwatch(&self) -> Result<u64, Fault>;
}
