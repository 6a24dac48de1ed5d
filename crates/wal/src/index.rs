//! Which operations are pending, and where their lines lie: all that is held in memory of a log that is read.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::hour::Hour;
use crate::line::Line;

/// Where a line lies. Orders as the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) hour: Hour,
    pub(crate) offset: u64,
    /// Bytes without the line's end.
    pub(crate) length: usize,
}

/// Operations that have begun and not ended, as far as the log was read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    open: HashMap<Arc<str>, (Place, Timestamp)>,
}

impl Index {
    /// Goes on by one line. The first pending line of an operation stands; repeats of it mean nothing.
    pub(crate) fn take(&mut self, line: &Line<'_>, place: Place) {
        if line.operation.is_none() {
            self.open.remove(&*line.operation_id);
        } else if !self.open.contains_key(&*line.operation_id) {
            self.open.insert(Arc::from(&*line.operation_id), (place, line.timestamp));
        }
    }

    pub(crate) fn hours(&self) -> impl Iterator<Item = Hour> {
        self.open.values().map(|(place, _)| place.hour)
    }

    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.open.values().map(|(_, timestamp)| *timestamp).min()
    }

    /// The pending operations in the order of the log.
    pub(crate) fn into_order(self) -> Vec<(Arc<str>, Place)> {
        let mut order: Vec<_> = self.open.into_iter().map(|(id, (place, _))| (id, place)).collect();
        order.sort_unstable_by_key(|(_, place)| *place);
        order
    }
}
