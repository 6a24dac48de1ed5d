//! The store on the Qdrant of QDRANT_URL, or else on the test server, which runs Qdrant's own engine. Tests of older
//! versions, of faults and of races between processes always use the test server.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "qdrant/cost.rs"]
mod cost;
#[path = "qdrant/faults.rs"]
mod faults;
#[path = "qdrant/fixture.rs"]
mod fixture;
#[path = "qdrant/guards.rs"]
mod guards;
#[path = "qdrant/middlebox.rs"]
mod middlebox;
#[path = "qdrant/schema.rs"]
mod schema;
#[path = "qdrant/shared.rs"]
mod shared;
#[path = "qdrant/surroundings.rs"]
mod surroundings;

/// A current server.
mod today {
    use crate::fixture::Today;

    chunk_sync_testkit::store_suite!(Today);
    chunk_sync_testkit::vector_store_suite!(Today);
}

/// A server without conditional upserts.
mod older {
    use crate::fixture::Older;

    chunk_sync_testkit::store_suite!(Older);
    chunk_sync_testkit::vector_store_suite!(Older);
}
