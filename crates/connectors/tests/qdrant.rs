//! The store on a Qdrant: the one that QDRANT_URL names, else the test server with Qdrant's own engine behind it, which is
//! also what tests of older versions, of faults and of races between processes use.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "qdrant/faults.rs"]
mod faults;
#[path = "qdrant/fixture.rs"]
mod fixture;
#[path = "qdrant/guards.rs"]
mod guards;
#[path = "qdrant/schema.rs"]
mod schema;
#[path = "qdrant/speed.rs"]
mod speed;

/// A server of today.
mod today {
    use crate::fixture::Today;

    chunk_sync_testkit::store_suite!(Today);
    chunk_sync_testkit::vector_store_suite!(Today);
}

/// A server that knows no conditional upsert.
mod older {
    use crate::fixture::Older;

    chunk_sync_testkit::store_suite!(Older);
    chunk_sync_testkit::vector_store_suite!(Older);
}
