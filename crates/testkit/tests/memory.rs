//! The ports in memory, tested against the contracts of the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Bus, EntryId, FinishedBy, Handover, Lease, Projection, Records};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Limits, Target};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::bus::BusFixture;
use chunk_sync_testkit::installation::Home;
use chunk_sync_testkit::lease::LeaseFixture;
use chunk_sync_testkit::memory::{MemoryBus, MemoryRecords, MemoryStore};
use chunk_sync_testkit::merge_bus::{Begun, MergeBusFixture};
use chunk_sync_testkit::merging::RowsAsStore;

macro_rules! fixture {
    ($name:ident, $port:ty, $memory:ty, $fresh:expr) => {
        struct $name($memory);

        #[async_trait]
        impl Fixture for $name {
            type Port = $port;

            async fn fresh() -> Self {
                Self($fresh)
            }

            fn port(&self) -> Arc<$port> {
                Arc::new(self.0.clone())
            }

            async fn reopen(&mut self) {
                self.0 = self.0.clone();
            }
        }
    };
}

fixture!(Rows, dyn Projection, MemoryStore, MemoryStore::new(Target::Postgres, Limits::default()));
fixture!(Vectors, dyn Projection, MemoryStore, MemoryStore::new(Target::Qdrant, Limits::default()));
fixture!(Graph, dyn Projection, MemoryStore, MemoryStore::new(Target::Neo4j, Limits::default()));
fixture!(RecordsAsStore, dyn Projection, RowsAsStore, RowsAsStore(Arc::new(MemoryRecords::default())));
fixture!(RecordsAsHome, dyn Home, MemoryRecords, MemoryRecords::default());
fixture!(RecordsAsRecords, dyn Records, MemoryRecords, MemoryRecords::default());

mod rows {
    use super::*;
    chunk_sync_testkit::store_suite!(Rows);
}

mod vectors {
    use super::*;
    chunk_sync_testkit::store_suite!(Vectors);
    chunk_sync_testkit::vector_store_suite!(Vectors);
}

mod graph {
    use super::*;
    chunk_sync_testkit::store_suite!(Graph);
    chunk_sync_testkit::graph_store_suite!(Graph);
}

mod system_of_record {
    use super::*;
    chunk_sync_testkit::installation_suite!(RecordsAsHome);
    chunk_sync_testkit::store_suite!(RecordsAsStore);
    chunk_sync_testkit::records_suite!(RecordsAsRecords);
}

struct Events(MemoryBus);

#[async_trait]
impl Fixture for Events {
    type Port = dyn Bus;

    async fn fresh() -> Self {
        let bus = MemoryBus::default();
        bus.begin(Handover::Orderly).await.unwrap();
        Self(bus)
    }

    fn port(&self) -> Arc<dyn Bus> {
        Arc::new(self.0.clone())
    }

    async fn reopen(&mut self) {
        self.0.end();
        self.0 = self.0.another();
        self.0.begin(Handover::Silent).await.unwrap();
    }
}

#[async_trait]
impl BusFixture for Events {
    async fn narrow(bound: u64) -> Self {
        Self(MemoryBus::new(bound as usize))
    }

    async fn add(&self, fields: Fields) -> EntryId {
        self.0.add(fields)
    }
}

/// A bus and records in one database, as one process sees them.
struct Beside {
    bus: MemoryBus,
    records: MemoryRecords,
}

impl Beside {
    fn of(bound: usize) -> Self {
        let bus = MemoryBus::of(bound, FinishedBy::Merge);
        Self { records: MemoryRecords::beside(&bus), bus }
    }
}

#[async_trait]
impl Fixture for Beside {
    type Port = dyn Bus;

    async fn fresh() -> Self {
        Self::of(usize::MAX)
    }

    fn port(&self) -> Arc<dyn Bus> {
        Arc::new(self.bus.clone())
    }

    async fn reopen(&mut self) {
        self.bus.end();
        self.bus = self.bus.another();
        self.bus.begin(Handover::Silent).await.unwrap();
    }
}

#[async_trait]
impl BusFixture for Beside {
    async fn narrow(bound: u64) -> Self {
        Self::of(bound as usize)
    }

    async fn add(&self, fields: Fields) -> EntryId {
        self.bus.add(fields)
    }
}

#[async_trait]
impl MergeBusFixture for Beside {
    fn records(&self) -> Arc<dyn Records> {
        Arc::new(self.records.clone())
    }

    async fn another(&self) -> Arc<dyn Bus> {
        Arc::new(self.bus.another())
    }

    async fn begin(&self, event: &Event) -> Begun {
        let (bus, event) = (self.bus.clone(), event.clone());
        let mut begun: Begun =
            Box::pin(async move { bus.publish_late(&[event], Duration::from_millis(1)).await.unwrap()[0] });
        assert!(futures::poll!(&mut begun).is_pending());
        begun
    }
}

mod beside_records {
    use super::*;
    chunk_sync_testkit::bus_suite!(Beside);
    chunk_sync_testkit::merge_bus_suite!(Beside);
}

mod events {
    use super::*;
    use chunk_sync_engine::ports::Delivery;
    use chunk_sync_testkit::states::{bare, changed, state};

    chunk_sync_testkit::bus_suite!(Events);

    const SHORT: Duration = Duration::from_millis(10);

    /// Two versions of one chunk, and another chunk.
    fn three() -> Vec<Event> {
        let [one, two] = ["one", "two"].map(|name| state(&bare(name)));
        [&one, &changed(&one, "another content"), &two].map(|state| Event::of_chunk(state.chunk.clone())).into()
    }

    fn ids(deliveries: &[Delivery]) -> Vec<EntryId> {
        deliveries.iter().map(|delivery| delivery.id).collect()
    }

    #[tokio::test]
    async fn what_a_process_took_that_lost_its_place_is_taken_back_in_order() {
        let one = MemoryBus::default();
        let two = one.another();
        one.begin(Handover::Silent).await.unwrap();
        let published = one.publish(&three()).await.unwrap();
        assert_eq!(ids(&one.read(1, SHORT).await.unwrap()), published[..1]);
        two.begin(Handover::Silent).await.unwrap();
        assert_eq!(ids(&two.read(1, SHORT).await.unwrap()), published[..1]);
        // It does not know yet that it is no longer the reader.
        assert_eq!(one.read(9, SHORT).await.unwrap().len(), 3);
        assert_eq!(ids(&two.read(9, SHORT).await.unwrap()), published);
    }
}

struct Leased(MemoryRecords);

#[async_trait]
impl Fixture for Leased {
    type Port = dyn Lease;

    async fn fresh() -> Self {
        Self(MemoryRecords::default())
    }

    fn port(&self) -> Arc<dyn Lease> {
        Arc::new(self.0.lease("test"))
    }

    async fn reopen(&mut self) {}
}

impl LeaseFixture for Leased {
    fn records(&self) -> Arc<dyn Records> {
        Arc::new(self.0.clone())
    }
}

mod leases {
    use super::*;
    chunk_sync_testkit::lease_suite!(Leased);
}

#[tokio::test]
async fn the_table_of_waiting_events_keeps_its_promises() {
    let records = MemoryRecords::default();
    chunk_sync_testkit::waiting::suite(&records).await;
    chunk_sync_testkit::waiting::bounded_reads(&records).await;
}
