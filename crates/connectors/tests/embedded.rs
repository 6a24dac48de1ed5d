//! The embedded stores and their bus, held to the contracts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_connectors::embedded::{Embedded, EmbeddedBus, MAX_BACKLOG};
use chunk_sync_engine::ports::{Bus, EntryId, FaultClass, Lease, Records, Store};
use chunk_sync_model::event::Fields;
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::bus::BusFixture;
use chunk_sync_testkit::lease::LeaseFixture;
use tempfile::TempDir;

/// A directory with the stores open on it.
struct Place {
    dir: TempDir,
    bound: u64,
    embedded: Option<Embedded>,
}

impl Place {
    fn fresh(bound: u64) -> Self {
        let mut place = Self { dir: TempDir::new().unwrap(), bound, embedded: None };
        place.reopen();
        place
    }

    fn reopen(&mut self) {
        // One process at a time, and one opening at a time.
        self.embedded = None;
        self.embedded = Some(Embedded::open(self.dir.path(), "test", Arc::default(), self.bound).unwrap());
    }

    fn open(&self) -> &Embedded {
        self.embedded.as_ref().unwrap()
    }
}

macro_rules! fixture {
    ($name:ident, $port:ty, $part:ident) => {
        struct $name(Place);

        #[async_trait]
        impl Fixture for $name {
            type Port = $port;

            async fn fresh() -> Self {
                Self(Place::fresh(MAX_BACKLOG))
            }

            fn port(&self) -> Arc<$port> {
                Arc::clone(&self.0.open().$part) as _
            }

            async fn reopen(&mut self) {
                self.0.reopen();
            }
        }
    };
}

fixture!(RowsAsStore, dyn Store, rows);
fixture!(RowsAsRecords, dyn Records, rows);
fixture!(Vectors, dyn Store, vectors);
fixture!(Graph, dyn Store, graph);
fixture!(BusOfPlace, dyn Bus, bus);
fixture!(LeaseOfPlace, dyn Lease, lease);

impl LeaseFixture for LeaseOfPlace {
    fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.0.open().rows) as _
    }
}

#[async_trait]
impl BusFixture for BusOfPlace {
    async fn narrow(bound: u64) -> Self {
        Self(Place::fresh(bound))
    }

    async fn add(&self, fields: Fields) -> EntryId {
        let bus: &EmbeddedBus = &self.0.open().bus;
        bus.add(fields).await.unwrap()
    }
}

mod rows {
    use super::*;
    chunk_sync_testkit::store_suite!(RowsAsStore);
    chunk_sync_testkit::records_suite!(RowsAsRecords);
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

chunk_sync_testkit::bus_suite!(BusOfPlace);
chunk_sync_testkit::lease_suite!(LeaseOfPlace);

#[test]
fn a_second_process_is_refused_by_the_name_of_the_first() {
    let dir = TempDir::new().unwrap();
    let first = Embedded::open(dir.path(), "run", Arc::default(), 1).unwrap();
    let refused = Embedded::open(dir.path(), "verify", Arc::default(), 1).err().expect("it is held");
    assert_eq!(refused.class, FaultClass::Busy);
    assert!(refused.message.contains(&format!("process {}, `chunk-sync run`", std::process::id())), "{refused}");
    drop(first);
    Embedded::open(dir.path(), "verify", Arc::default(), 1).unwrap();
}
