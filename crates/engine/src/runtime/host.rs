//! The machine that the service runs on, as far as the service depends on one.

use std::sync::Arc;

use chunk_sync_wal::disk::Disk;

use crate::runtime::clock::Clock;

/// The machine that the service runs on, as far as it depends on one.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The disk of the log, which nobody else writes.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Clock,
}
