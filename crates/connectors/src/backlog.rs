//! The bound of a bus: when it is full, and how that is reported. Each bus counts in its own way.

use chunk_sync_engine::ports::{Fault, FaultClass};

/// The most unfinished entries of a bus, and about the most bytes of their fields. Above either, publishers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxBacklog {
    /// The number of entries.
    pub entries: u64,
    /// The bytes of their fields, as the server stores them.
    pub bytes: u64,
}

/// The default bound.
pub const MAX_BACKLOG: MaxBacklog = MaxBacklog { entries: 100_000, bytes: 4 << 30 };

/// What a bus holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl MaxBacklog {
    /// A bound of the number of entries, with the default bound of bytes.
    #[must_use]
    pub fn of_entries(entries: u64) -> Self {
        Self { entries, ..MAX_BACKLOG }
    }

    pub(crate) fn has_room(self, held: Backlog) -> bool {
        held.entries < self.entries && held.bytes < self.bytes
    }

    /// The fault of a publisher that found no room.
    pub(crate) fn busy(self, held: Backlog, context: &'static str) -> Fault {
        let Backlog { entries, bytes } = held;
        // Bytes are counted only where they could exceed the bound.
        let size = if bytes > 0 { format!(" of {bytes} bytes") } else { String::new() };
        let message = format!(
            "the bus is full: it holds {entries} unfinished events{size}, its limits are \
             {} and {} bytes; start `chunk-sync run`, or wait until it has synced some",
            self.entries, self.bytes
        );
        Fault::new(FaultClass::Busy, context, message)
    }
}
