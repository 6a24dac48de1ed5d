//! Operations that are pending in the log and whose entries the bus still answers for: they are not replayed.
//!
//! In the same epoch of the bus an entry is either unfinished there, and then the bus hands it out again in the order
//! of the stream, or it is finished, perhaps by another process. The line in the log stays pending until one of the two
//! is certain, because until then the log may be the only place that has the operation:
//! - the entry was handed out and written to the log again: the new line replaces the old one;
//! - the oldest unfinished entry is above it, and the bus is still in the same epoch, asked in this order.
//!
//! After a crash in between, the lines are as they were. If the bus changes to another epoch, all of them are replayed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_sync_wal::Origin;

use crate::pipeline::envelope::Operation;
use crate::ports::EntryId;

/// The lines of the log that wait for the bus, by entry. One entry may have several: each delivery writes its own.
#[derive(Debug, Default)]
pub(crate) struct Carried(Mutex<BTreeMap<EntryId, Vec<String>>>);

/// What the bus answers about the entries of the carried log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has those that it has not finished.
    Kept,
    /// It is in another epoch and cannot answer for them.
    Lost,
    /// It does not answer.
    Unknown,
}

impl Carried {
    /// Keeps the line if the bus still answers for it; returns whether it does.
    pub(crate) fn keep(&self, operation: &str, origin: Option<&Origin<'_>>, epoch: &str) -> bool {
        let entry = origin.filter(|origin| origin.epoch == epoch).and_then(|origin| origin.entry.parse().ok());
        if let Some(entry) = entry {
            self.lines().entry(entry).or_default().push(operation.to_owned());
        }
        entry.is_some()
    }

    /// The older lines of these operations, which the log has written again by now.
    pub(crate) fn superseded(&self, operations: &[Operation]) -> Vec<String> {
        let mut lines = self.lines();
        if lines.is_empty() {
            return Vec::new();
        }
        let older = |operation: &Operation| {
            let older = lines.remove(&operation.entry.as_ref()?.id)?;
            // A line with the same operation id is completed together with the new one.
            Some(older.into_iter().filter(|name| *name != operation.id).collect::<Vec<_>>())
        };
        operations.iter().filter_map(older).flatten().collect()
    }

    /// Removes and returns the lines of entries below the oldest unfinished one: those entries are finished.
    pub(crate) fn finished(&self, oldest: Option<EntryId>) -> Vec<String> {
        let mut lines = self.lines();
        let rest = oldest.map(|oldest| lines.split_off(&oldest)).unwrap_or_default();
        std::mem::replace(&mut *lines, rest).into_values().flatten().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines().is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.lines().len() as u64
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<EntryId, Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> EntryId {
        EntryId { millis: 1, sequence }
    }

    #[test]
    fn only_lines_of_the_same_epoch_of_the_bus_are_kept() {
        let carried = Carried::default();
        let origin = |entry: &'static str, epoch: &'static str| Origin { entry: entry.into(), epoch: epoch.into() };
        assert!(carried.keep("a", Some(&origin("1-0", "life")), "life"));
        assert!(!carried.keep("b", Some(&origin("1-1", "other")), "life"));
        assert!(!carried.keep("c", Some(&origin("none", "life")), "life"));
        assert!(!carried.keep("d", None, "life"), "lines of older versions have no origin");
        assert_eq!(carried.len(), 1);
    }

    #[test]
    fn what_lies_below_the_oldest_unfinished_entry_is_finished() {
        let carried = Carried::default();
        for sequence in 0..4 {
            let entry = id(sequence).to_string();
            let origin = Origin { entry: entry.into(), epoch: "life".into() };
            assert!(carried.keep(&sequence.to_string(), Some(&origin), "life"));
        }
        assert_eq!(carried.finished(Some(id(2))), ["0", "1"]);
        assert_eq!(carried.finished(Some(id(2))), [""; 0]);
        assert_eq!(carried.finished(None), ["2", "3"]);
        assert!(carried.is_empty());
    }
}
