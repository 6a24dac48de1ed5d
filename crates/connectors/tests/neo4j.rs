//! Tests of the graph projection on a real Neo4j, given by `CHUNK_SYNC_TEST_NEO4J_URL`, `_USER` and `_PASSWORD`. They
//! delete everything in its database.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "neo4j/cluster.rs"]
mod cluster;
#[path = "neo4j/converge.rs"]
mod converge;
#[path = "neo4j/cost.rs"]
mod cost;
#[path = "neo4j/examine.rs"]
mod examine;
#[path = "neo4j/faults.rs"]
mod faults;
#[path = "neo4j/fixture.rs"]
mod fixture;
#[path = "neo4j/foreign_writes.rs"]
mod foreign_writes;
#[path = "neo4j/heavy.rs"]
mod heavy;
#[path = "neo4j/middlebox.rs"]
mod middlebox;
#[path = "neo4j/shared.rs"]
mod shared;
#[path = "neo4j/tls.rs"]
mod tls;

/// The contract suites of every store and every graph store.
mod contract {
    use super::fixture::Neo4j;

    chunk_sync_testkit::store_suite!(Neo4j);
    chunk_sync_testkit::graph_store_suite!(Neo4j);
}
