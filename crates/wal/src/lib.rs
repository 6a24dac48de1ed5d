//! Write-ahead log: an append-only log of opaque JSON operations, which are durable before the caller acts on them.
//!
//! The life of an operation: [`Wal::append`] writes its pending line and syncs; the caller does the work;
//! [`Wal::complete`] writes its completion line. [`Wal::open`] returns the operations without a completion, and the
//! caller does them again. Execution is at least once, so the work must be repeatable. `line.rs` describes the line
//! format, `hour.rs` the files, `recovery.rs` the handling of damage, and `writer.rs` the durability guarantees.
//!
//! The crate is synchronous and does not interpret operations.

pub mod disk;
mod erase;
mod error;
mod future;
mod hour;
mod index;
mod inspect;
mod line;
mod recovery;
mod scan;
mod set_aside;
pub mod testing;
mod writer;

pub use disk::holder;
pub use erase::drop_lines;
pub use error::WalError;
pub use future::{Renamed, rename_future_files};
pub use inspect::{FileReport, Flawed, Report, inspect, inspect_on};
pub use line::{Completion, MAX_LINE, Origin, Outcome, Pending};
pub use recovery::{Entry, Recovery, Replay, pending};
pub use scan::{Damage, Torn};
pub use writer::{Options, Wal};
