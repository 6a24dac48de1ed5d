//! The ports in memory, held to the contracts of the real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Records, Store};
use chunk_sync_model::{Limits, Target};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::memory::{MemoryRecords, MemoryStore};

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

fixture!(Rows, dyn Store, MemoryStore, MemoryStore::new(Target::Postgres, Limits::default()));
fixture!(Vectors, dyn Store, MemoryStore, MemoryStore::new(Target::Qdrant, Limits::default()));
fixture!(Graph, dyn Store, MemoryStore, MemoryStore::new(Target::Neo4j, Limits::default()));
fixture!(RecordsAsStore, dyn Store, MemoryRecords, MemoryRecords::default());
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
    chunk_sync_testkit::store_suite!(RecordsAsStore);
    chunk_sync_testkit::records_suite!(RecordsAsRecords);
}
