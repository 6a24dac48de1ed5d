//! The parts of the machine that the service depends on.

use std::sync::Arc;

use chunk_sync_wal::disk::Disk;

use crate::runtime::clock::Clock;

/// The parts of the machine that the service depends on.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The disk of the log. No other process may write to it.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Clock,
}
