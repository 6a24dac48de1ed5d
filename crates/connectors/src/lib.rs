//! Whatever speaks to a vendor: each module implements the engine's seams for one of them, and knows none of the others.
//!
//! The same shape everywhere: `config`, `encode` and `store` (or `bus`), and `fault` for what can go wrong.

mod checked;
pub mod embedded;
pub mod neo4j;
pub mod postgres;
pub mod qdrant;
pub mod redis;
mod remote;

pub use checked::Checked;
