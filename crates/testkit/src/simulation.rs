//! The real engine and the real log on a simulated machine: the disk crashes, ports fail, hours pass in milliseconds.
//!
//! [`run`] simulates one seed: systems publish changes, calls fail, and one or more processes are killed repeatedly.
//! Then the faults end, and every store must hold what the [oracle] expects.
//!
//! # What each crash would lose or repeat
//! | crash | would be lost or repeated | why it is not |
//! |---|---|---|
//! | in `Bus::publish`, or before its answer | the event; or it is published twice | its publisher got no answer and publishes again; the second event merges to nothing |
//! | between `Bus::read` and `Wal::append` | the entries that were handed out | they are not acknowledged, so the bus hands them out again |
//! | in `Wal::append`, before its sync | a torn line | nothing was acknowledged: the start cuts the line off, and the bus hands the entry out again |
//! | after that sync, before `Records::merge` | nothing, even if the bus loses the entry now | the operation is pending in the log and is replayed before any new entry is read |
//! | in `Records::merge`, or before its answer | the whole merge; or it is repeated | it is one transaction; a repetition finds its event in the record and is written to the stores all the same |
//! | between merge and `Projection::apply` | the write to that store | it is replayed: the current state is written |
//! | in `Projection::apply`, or before its answer | part of a batch; or it is repeated | each write is guarded by its version |
//! | before or after `Records` adds writes to the outbox | the outbox entry | the batch is not settled before its outbox entries are recorded, and is replayed |
//! | between `Projection::apply` and `Outbox::drained` | nothing; the outbox entry is written twice | it is guarded by its version |
//! | while no process runs, a bit of the log flips | the operation of that line | the line is set aside and the others are replayed; the bus hands the entry out again (an operation that only the log has is spared) |
//! | before `Wal::complete`, or before its sync | the completion | one more replay, which is harmless |
//! | before `Bus::acknowledge`, or before its answer | the acknowledgement | the bus hands the entry out once more |
//! | between a captured row and the confirmation of its position | the captured event; or it is published twice | it is captured again from the last confirmed position; a row in its last known state is not a change |
//! | while the saved capture position is lost | what was written meanwhile | the position that may be confirmed was noted: a log that is ahead of it reports a gap, and rows are compared with their last known state |
//! | before `Capture::close_gap` | nothing | the next opening reports the gap again, and its rows are compared again |
//! | between `Lease::take` and its answer | nothing: no process works on the stream for 2 s | the lease is not renewed, and a process takes it |
//! | while the process holds the lease | the work in progress | it is pending on the bus and in the log of the process |
//! | the process stands still (no crash), and another takes the lease | a merge of the old holder; or it is repeated | its token is refused; the takeover waits for merges that had begun before |
//! | after a write was sent to a store, before its answer | nothing; the write may arrive minutes later, when the chunk is deleted there | its chunk is on the watch list and is read back |
//! | while `Bus` writes a dead letter | nothing; the letter may be there twice | letter and acknowledgement are written together |
//!
//!
//! If the merge finishes the entries of the bus ([`FinishedBy::Merge`]), there is no log between bus and merge:
//!
//! | crash | would be lost or repeated | why it is not |
//! |---|---|---|
//! | between `Bus::read` and `MergeTransaction::commit` | the entries that were handed out | they are on the bus, which hands them out again |
//! | in `MergeTransaction::commit`, or before its answer | the whole merge with its entries; or it is repeated | rows, outbox and entries are in one transaction; a repetition merges to nothing and finishes entries that are gone |
//! | between merge and `Projection::apply` | the write to that store | the merge has put it into the outbox |
//! | between `Projection::apply` and `Outbox::drained` | nothing; the write is applied twice | it is guarded by its version |
//! | while `Bus` writes a dead letter for what a store refused | the letter; or both letter and outbox entry exist | the outbox entry is removed only after the letter is written |
//! | between a captured row and the confirmation of its position | the captured event is published twice | the position is confirmed once its entry is committed beside the rows |
//! | of a publisher between the numbers of its entries and their commit | nothing: it got no answer | no reader waits for missing numbers; they are read when they are committed |
//!
//! # What is not simulated
//! Sectors that reach the disk out of order; foreign writes into Qdrant and Neo4j.

mod capture;
mod course;
mod deletions;
mod disk;
mod faults;
mod helpers;
mod life;
mod machine_ports;
mod oracle;
mod plant;
mod ports;
mod process;
mod restore;
mod scenario;
mod tally;
mod trace;
mod trigger;
mod trouble;
mod waiting;
mod way;
mod world;
mod writers;

use course::live;
pub use plant::{Installation, Plant, Trouble};
pub use tally::Tally;

/// Simulates one seed. The same seed gives the same tally.
///
/// # Errors
/// States what was lost, repeated, went back to an older version or did not settle.
pub fn run(seed: u64, installation: Installation, plant: Plant) -> Result<Tally, String> {
    // The engine draws its jitter from this thread-local generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(live(seed, installation, plant))
}
