//! The vector projection in Qdrant 1.7 or later, over gRPC.
//!
//! One point per chunk, with the chunk's id. It holds the dense vectors by name, normalised to length one, a sparse
//! vector, and the payload, which also holds the chunk's sync version under `sync_version`. That version guards every
//! write:
//!
//! | write | guard |
//! |---|---|
//! | delete, payload only | a filter that excludes points of the same or a newer version |
//! | whole points, server 1.16 or later | the same filter, as the condition of the upsert |
//! | whole points, older server | the stored versions are read first, one batch at a time; only one process may write |
//!
//! Numbers in the payload are signed 64-bit integers or doubles, because gRPC has no other numbers. An integer above
//! 2^63 - 1 is stored as the nearest double, and verification expects that double. Not here: search, and any other use
//! of the collection.

mod bounds;
mod config;
mod encode;
mod examine;
mod fault;
mod mark;
mod plan;
mod rest_port;
mod schema;
mod server;
mod store;

pub use config::QdrantConfig;
pub use examine::examine;
pub use schema::rights;
pub use store::QdrantStore;
