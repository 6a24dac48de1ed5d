//! The system of record on PostgreSQL 15 and later: a row per chunk in a table that other programs also write. The
//! schema `chunk_sync` holds its record, its outbox entries, its conflicts and the vectors that have no column in the
//! table. One transaction writes them all.
//!
//! The connector adapts to the table as it finds it: vectors in pgvector's types or in plain arrays and JSON, numbers
//! of any width. It also has the bus for installations without Redis, and capture from the replication log. Not here:
//! what a change means.

mod absence;
mod absence_tables;
mod bus;
mod capture;
mod cell;
mod config;
mod conflicts;
mod conninfo;
mod decode;
mod encode;
mod erasures;
mod examine;
mod facts;
mod failure;
mod fault;
mod fence;
mod flight;
mod found_slot;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod idle_records;
mod installation;
mod json;
mod lease;
mod link;
mod merge;
mod migrations;
mod open_transaction;
mod outbox;
mod pool;
mod provider;
mod publication;
mod record_writes;
mod recorded_table;
mod records;
mod replication;
mod requirements;
mod reserved;
mod rest;
mod row;
mod row_update;
mod row_writes;
mod schema;
mod socket;
mod sql;
mod sqlstate;
mod states;

#[cfg(test)]
mod tests;
mod tls;
mod transaction;
mod waiting;
mod watch_list;
mod wire;

pub use bus::PostgresBus;
pub use capture::{CaptureConfig, Plugin, PostgresCapture};
pub use cell::Indexed;
pub use config::PostgresConfig;
pub use conninfo::Shown;
pub use decode::{Decoded, decode};
pub use examine::examine;
pub use lease::PostgresLease;
pub use publication::Publish;
pub use records::PostgresRecords;
pub use row::{Further, RowImage};
