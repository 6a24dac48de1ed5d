//! The vectors in Qdrant 1.7 or later, over gRPC.
//!
//! One point a chunk, its id the chunk's: the dense vectors by name and of length one, a sparse one, and the payload, which
//! also holds the chunk's sync version under `sync_version`. What is written is guarded by that number:
//!
//! | what | how |
//! |---|---|
//! | delete, payload alone | by a filter that leaves out points of the same or a newer version |
//! | whole points, server 1.16 or later | by such a filter on the upsert |
//! | whole points, older server | held versions are read first, one batch at a time: one process may write |
//!
//! Numbers in the payload are 64-bit integers with a sign, or doubles, because gRPC has no others: an integer above
//! 2^63 - 1 is held as the nearest double, and expected so. Not here: search, and whatever else a collection is used for.

mod config;
mod encode;
mod examine;
mod fault;
mod plan;
mod schema;
mod server;
mod store;

pub use config::QdrantConfig;
pub use examine::examine;
pub use schema::statements;
pub use store::QdrantStore;
