//! How much is under way to the stores: events and bytes that were merged and are not completed yet. The worker reads
//! nothing more while either reaches its limit; memory stays bounded, and a store that answers slowly does not stop the
//! others before.

use crate::pipeline::envelope::Operation;
use crate::ports::Write;
use crate::runtime::settings::WorkerSettings;
use crate::runtime::shared_value::SharedValue;

/// The number of events and bytes of something under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    events: usize,
    bytes: usize,
}

/// Counts what is under way. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    load: SharedValue<Load>,
    most: Load,
}

/// A batch under way; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    load: SharedValue<Load>,
    own: Load,
}

impl InFlight {
    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        let most = Load { events: settings.in_flight_events.max(1), bytes: settings.in_flight_bytes.max(1) };
        Self { load: SharedValue::new(Load::default()), most }
    }

    /// Counts a batch.
    pub(crate) fn enter(&self, operations: &[Operation], writes: &[Write]) -> Slot {
        let fields = operations.iter().filter_map(|operation| operation.entry.as_ref()).flat_map(|entry| &entry.fields);
        let bytes = fields.map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + writes.iter().map(Write::weight).sum::<usize>();
        let own = Load { events: operations.len(), bytes };
        self.load.change(|load| {
            load.events += own.events;
            load.bytes += own.bytes;
        });
        Slot { load: self.load.clone(), own }
    }

    /// Waits until there is room for another batch. The last batch may exceed the limit.
    pub(crate) async fn room(&self) {
        self.load.until(|load| load.events < self.most.events && load.bytes < self.most.bytes).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.load.change(|load| {
            load.events -= self.own.events;
            load.bytes -= self.own.bytes;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chunk_sync_model::SyncVersion;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;

    fn write() -> Write {
        let version = SyncVersion::new(1);
        Write { id: Uuid::nil(), version, state: None, vectors_since: version }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_counts_until_its_slot_is_dropped() {
        let settings = WorkerSettings { in_flight_bytes: 3 * write().weight(), ..WorkerSettings::default() };
        let in_flight = InFlight::new(&settings);
        let has_room = || async { timeout(Duration::from_secs(1), in_flight.room()).await.is_ok() };
        let first = in_flight.enter(&[], &[write(), write()]);
        assert!(has_room().await);
        let second = in_flight.enter(&[], &[write(), write()]);
        assert!(!has_room().await);
        drop(first);
        assert!(has_room().await);
        drop(second);
        in_flight.load.read(|load| assert_eq!(*load, Load::default()));
    }
}
