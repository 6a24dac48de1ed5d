//! The connectors: each module implements the engine's ports for one vendor and depends on no other vendor.
//!
//! Each has the same layout: `config`, `encode`, `store` (or `bus`), and `fault`, which maps the vendor's errors to
//! classes.

mod checked;
pub mod embedded;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod neo4j;
pub mod postgres;
mod probe;
pub mod qdrant;
pub mod redis;
mod remote;
mod tls;

pub use checked::Checked;
pub use tls::{OwnCertificate, TlsFiles};
