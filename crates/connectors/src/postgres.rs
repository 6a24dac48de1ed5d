//! The system of record on PostgreSQL 15 and later: a row per chunk in a table that others write too, and beside it, in
//! the schema `chunk_sync`, its record, its debts, its conflicts and the vectors that the row has no column for, in one transaction.
//!
//! The table is taken as it is: whether its vectors are pgvector's types or plain arrays and JSON, and how wide its
//! numbers are, is looked at and adapted to. Not here: the replication log, and what a change means.

mod bus;
mod capture;
mod cell;
mod config;
mod conflicts;
mod decode;
mod encode;
mod examine;
mod fault;
mod fence;
mod installation;
mod json;
mod lease;
mod merge;
mod pool;
mod records;
mod rest;
mod row;
mod schema;
mod sql;
mod store;
#[cfg(test)]
mod tests;
mod tls;

pub use bus::PostgresBus;
pub use capture::{CaptureConfig, Plugin, PostgresCapture};
pub use cell::Indexed;
pub use config::PostgresConfig;
pub use decode::{Decoded, decode};
pub use examine::examine;
pub use lease::PostgresLease;
pub use records::PostgresRecords;
pub use row::{Further, RowImage};
