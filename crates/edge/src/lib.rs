//! Vectors in Qdrant's own engine, in process: what a Qdrant server does for the servers, for the embedded mode. The heavy
//! dependency lives in this crate alone, so that whoever needs no embedded mode need not build it.

mod encode;
mod layout;
mod shard;
mod store;

pub use store::EdgeStore;
