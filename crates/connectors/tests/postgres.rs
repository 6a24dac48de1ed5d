//! The system of record on real servers, which are named by `CHUNK_SYNC_TEST_PG15_URL` (without pgvector) and
//! `CHUNK_SYNC_TEST_PG18_URL` (with it). Every test has a database of its own there, which it drops at its end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/strangers.rs"]
mod strangers;
#[path = "postgres/trouble.rs"]
mod trouble;

macro_rules! suites {
    ($name:ident, $server:ty) => {
        mod $name {
            use crate::fixture::{AsRecords, AsStore};

            type Rows = AsStore<$server>;
            type RowsAndRecords = AsRecords<$server>;

            chunk_sync_testkit::store_suite!(Rows);
            chunk_sync_testkit::records_suite!(RowsAndRecords);
        }
    };
}

suites!(on_15_without_pgvector, crate::fixture::Pg15);
suites!(on_18_with_pgvector, crate::fixture::Pg18);
