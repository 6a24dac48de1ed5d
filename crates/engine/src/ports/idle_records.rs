//! Records that no merge has written for long.

use async_trait::async_trait;
use chunk_sync_model::Time;
use uuid::Uuid;

use super::Fault;

/// A part of the walk over all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdlePage {
    /// The idle ones among the examined records.
    pub ids: Vec<Uuid>,
    /// The last examined record; `None` at the end of the walk.
    pub last: Option<Uuid>,
}

/// The walk over idle records.
#[async_trait]
pub trait IdleRecords: Send + Sync {
    /// Examines the next `limit` records in ascending order of id, above `after`: which of them no merge has written since
    /// `before`, and were not [swept](Self::swept) since. A walk, because an index by time would make every merge slower.
    async fn idle(&self, after: Option<Uuid>, before: Time, limit: usize) -> Result<IdlePage, Fault>;

    /// Notes that nothing more of these records expires until a merge writes them. A record that a merge has written
    /// since `before` is left as it is.
    async fn swept(&self, ids: &[Uuid], before: Time) -> Result<(), Fault>;
}
