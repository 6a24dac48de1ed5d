//! What must be erased of deleted chunks.

use async_trait::async_trait;
use uuid::Uuid;

use super::Fault;

/// Erasure of conflicts, and requests to erase the log. Not fenced: a request only makes the process that has the log
/// erase ended operations of deleted chunks.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// Requests that the process which works the stream erases these chunks from its log.
    async fn request_erasure(&self, ids: &[Uuid]) -> Result<(), Fault>;

    /// The chunks whose erasure from the log is requested, in ascending order, at most `limit`.
    async fn requested_erasures(&self, limit: usize) -> Result<Vec<Uuid>, Fault>;

    /// Withdraws the requests.
    async fn withdraw_erasure(&self, ids: &[Uuid]) -> Result<(), Fault>;

    /// Removes every conflict of the chunk from the record, open ones, too; returns the number.
    async fn erase_conflicts(&self, id: Uuid) -> Result<u64, Fault>;
}
