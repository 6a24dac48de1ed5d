//! Entries that this process has delivered and that are not finished.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chunk_sync_engine::ports::EntryId;
use tokio::sync::Notify;

use super::entry::number;

/// The numbers of these entries. [`PostgresRecords`](super::super::PostgresRecords) owns them, because merges finish
/// entries.
#[derive(Default)]
pub(in crate::postgres) struct Handed {
    numbers: Mutex<BTreeSet<i64>>,
    /// Notified when entries were finished: the bus may have room.
    pub(super) finished: Notify,
}

impl Handed {
    /// Removes entries, after the transaction that deleted them has committed.
    pub(in crate::postgres) fn finish(&self, ids: &[EntryId]) {
        if ids.is_empty() {
            return;
        }
        let mut numbers = self.lock();
        for number in ids.iter().filter_map(|id| number(*id)) {
            numbers.remove(&number);
        }
        drop(numbers);
        self.finished.notify_waiters();
    }

    pub(super) fn add(&self, numbers: impl Iterator<Item = i64>) {
        self.lock().extend(numbers);
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        self.lock().contains(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
