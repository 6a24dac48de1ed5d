//! The system of record on real servers: `CHUNK_SYNC_TEST_PG15_URL` (without pgvector) and `CHUNK_SYNC_TEST_PG18_URL`
//! (with pgvector). Every test creates its own database there and drops it at its end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "postgres/bus.rs"]
mod bus;
#[path = "postgres/capture.rs"]
mod capture;
#[path = "postgres/capture_trouble.rs"]
mod capture_trouble;
#[path = "postgres/cost.rs"]
mod cost;
#[path = "postgres/examine.rs"]
mod examine;
#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/foreign_writers.rs"]
mod foreign_writers;
#[path = "postgres/hidden.rs"]
mod hidden;
#[path = "postgres/lease.rs"]
mod lease;
#[path = "postgres/oddities.rs"]
mod oddities;
#[path = "postgres/own_server.rs"]
mod own_server;
#[path = "postgres/partitions.rs"]
mod partitions;
#[path = "postgres/pooler.rs"]
mod pooler;
#[path = "postgres/publication.rs"]
mod publication;
#[path = "postgres/recorded.rs"]
mod recorded;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/setups.rs"]
mod setups;
#[path = "postgres/stored_rows.rs"]
mod stored_rows;
#[path = "postgres/tls.rs"]
mod tls;
#[path = "postgres/trouble.rs"]
mod trouble;
#[path = "postgres/visibility.rs"]
mod visibility;
#[path = "postgres/waiting.rs"]
mod waiting;

macro_rules! suites {
    ($name:ident, $server:ty) => {
        mod $name {
            use crate::fixture::{AsHome, AsLease, AsRecords, AsStore};

            type Rows = AsStore<$server>;
            type RowsAndRecords = AsRecords<$server>;
            type RowsAsHome = AsHome<$server>;
            type Leased = AsLease<$server>;
            type Entries = crate::bus::OnServer<$server>;

            chunk_sync_testkit::store_suite!(Rows);
            chunk_sync_testkit::records_suite!(RowsAndRecords);
            chunk_sync_testkit::installation_suite!(RowsAsHome);
            chunk_sync_testkit::bus_suite!(Entries);
            chunk_sync_testkit::merge_bus_suite!(Entries);
            chunk_sync_testkit::lease_suite!(Leased);
            // The suite of stores with typed vectors, except that a vector of another length is refused: the column of
            // the row then stays empty and chunk_sync.embeddings holds the vector. Publishing validates the lengths.
            chunk_sync_testkit::suite!(
                vector_store,
                Rows,
                [
                    a_write_without_new_vectors_replaces_all_but_them,
                    vectors_are_written_where_older_ones_are_held,
                    a_vector_that_is_gone_is_gone,
                ]
            );
        }
    };
}

suites!(on_15_without_pgvector, crate::fixture::Pg15);
suites!(on_18_with_pgvector, crate::fixture::Pg18);
suites!(on_18_behind_a_pooler, crate::fixture::Pooled18);
