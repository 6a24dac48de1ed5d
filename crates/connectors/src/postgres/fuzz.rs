//! What the fuzz targets do with their input, as far as PostgreSQL is concerned.

pub use super::capture::fuzz::{pgoutput, wal2json};
pub use super::conninfo::fuzz::postgres_string;
