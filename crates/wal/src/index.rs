//! The pending operations and the places of their lines: all that is kept in memory when a log is read.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::hour::Hour;
use crate::line::{AGAIN, Line};

/// The place of a line. Sorts in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinePosition {
    pub(crate) hour: Hour,
    pub(crate) offset: u64,
    /// Bytes, without the line end.
    pub(crate) length: usize,
}

/// The operations that are pending in the lines read so far.
#[derive(Debug, Default)]
pub(crate) struct Index {
    open: HashMap<Arc<str>, Open>,
    unmatched: u64,
}

/// A pending operation.
#[derive(Debug, Clone, Copy)]
struct Open {
    position: LinePosition,
    since: Timestamp,
    replays: u32,
}

/// A pending operation in the order of the log.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) operation_id: Arc<str>,
    pub(crate) position: LinePosition,
    /// How often a start has replayed it, as noted by [`Wal::begin_again`](crate::Wal::begin_again).
    pub(crate) replays: u32,
}

impl Index {
    /// Adds a line. Of several pending lines of an operation the first one counts; later ones with the operation `{}`
    /// increment the number of replays, others are ignored. A note of a replay alone is none: the file with the operation
    /// was removed because it had ended, and a crash lost its completion, which is not synced.
    pub(crate) fn take(&mut self, line: &Line<'_>, position: LinePosition) {
        let Some(operation) = line.operation else {
            self.unmatched += u64::from(self.open.remove(&*line.operation_id).is_none());
            return;
        };
        match self.open.get_mut(&*line.operation_id) {
            Some(open) => open.replays += u32::from(operation == AGAIN),
            None if operation == AGAIN => {}
            None => {
                let open = Open { position, since: line.timestamp, replays: 0 };
                self.open.insert(Arc::from(&*line.operation_id), open);
            }
        }
    }

    /// The number of completions without a pending line before them.
    pub(crate) fn unmatched(&self) -> u64 {
        self.unmatched
    }

    pub(crate) fn hours(&self) -> impl Iterator<Item = Hour> {
        self.open.values().map(|open| open.position.hour)
    }

    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.open.values().map(|open| open.since).min()
    }

    /// The pending operations in the order of the log.
    pub(crate) fn into_order(self) -> Vec<Begun> {
        let begun = |(operation_id, open): (Arc<str>, Open)| Begun {
            operation_id,
            position: open.position,
            replays: open.replays,
        };
        let mut order: Vec<_> = self.open.into_iter().map(begun).collect();
        order.sort_unstable_by_key(|begun| begun.position);
        order
    }
}
