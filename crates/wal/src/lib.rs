//! Write-ahead log: an append-only log of opaque JSON operations, durable before anything else is touched.
//!
//! The way of an operation: [`Wal::append`] writes its pending line and syncs; the caller does the work; [`Wal::complete`]
//! writes its completion line. What [`Wal::open`] finds pending without a completion is to be done again: at least once,
//! so the work itself must be repeatable. The line format is described in `line.rs`, the files in `hour.rs`, what is done
//! about damage in `recovery.rs`, and what is promised when in `writer.rs`.
//!
//! Everything here is synchronous and knows nothing of what an operation means.

pub mod disk;
mod error;
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
pub use error::WalError;
pub use inspect::{FileReport, Flawed, Report, inspect, inspect_on};
pub use line::{Completion, MAX_LINE, Origin, Outcome, Pending};
pub use recovery::{Entry, Recovery, Replay, pending};
pub use scan::{Damage, Torn};
pub use writer::{Options, Wal};
