//! Recovery: operations that are pending in the log and that the bus may have lost take the path again from the merge
//! on, before anything new is read. Only the holder of the lease replays, and each process its own log. Entries that
//! the bus still answers for are left to the bus (`carried.rs`): it hands them out in their order, whichever process
//! had them last.
//!
//! Replaying twice has the effect of replaying once: a change that was merged before changes nothing, a store that has
//! the state skips it, and whatever is missing anywhere is written.
//!
//! An operation that kills the process would kill it at every start. So the log records that an operation is begun
//! again before it is, and an operation that was begun as often as an entry may be delivered goes to the dead letters.
//! While it is unknown which operation of a batch kills the process, the whole batch is suspect: an operation that two
//! starts have begun again without finishing it is carried alone, and only one that then does not end is counted
//! further. One or two such starts prove nothing yet, and carrying operations alone is slow.

use chunk_sync_model::{Event, Invalid};
use chunk_sync_wal::{Entry, Recovery, Replay, WalError};
use tracing::{info, warn};

use crate::pipeline::envelope::{self, Operation};
use crate::pipeline::isolation;
use crate::pipeline::log::Ending;
use crate::pipeline::worker::Worker;
use crate::ports::{Fault, FaultClass};

/// A batch ends once its operations have this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// What the log held at the start, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Operations carried again.
    pub replayed: u64,
    /// Operations whose entries the bus still answers for: another process finished them, or the bus hands them out
    /// again.
    pub on_bus: u64,
    /// Operations that went to the dead letters because every start that began them ended before they did.
    pub given_up: u64,
    /// Operations that are no longer accepted as events: they went to the dead letters, or wait if a setting refuses
    /// them.
    pub unreadable: u64,
    /// Damaged lines that were copied to the file of damaged lines.
    pub damaged: u64,
    /// The last line was torn and was cut off.
    pub torn: bool,
}

/// Logs the damage that the log had, and carries again what is pending.
pub(crate) async fn recover(worker: &Worker, recovery: Recovery) -> Result<Recovered, Fault> {
    let mut recovered =
        Recovered { torn: recovery.torn.is_some(), damaged: recovery.damaged.len() as u64, ..Recovered::default() };
    for damage in &recovery.damaged {
        warn!(
            file = damage.file,
            line = damage.line,
            reason = damage.reason,
            "set aside a damaged line of the write-ahead log"
        );
    }
    if let Some(torn) = &recovery.torn {
        warn!(file = torn.file, line = torn.line, bytes = torn.bytes, "cut off the torn last line of the log");
    }
    let mut pending = recovery.pending;
    loop {
        let size = worker.settings.worker.batch;
        let read = worker.log.run_blocking(move || {
            let batch = next_batch(&mut pending, size);
            (pending, batch)
        });
        let (rest, batch) = read.await;
        pending = rest;
        let batch = batch.map_err(|error| Fault::new(FaultClass::Disk, "write-ahead log", error))?;
        if batch.is_empty() || worker.stop.is_requested() {
            break;
        }
        for run in isolation::alone(batch, |entry| entry.replays >= SUSPECT) {
            replay(worker, run, &mut recovered).await?;
        }
        info!(replayed = recovered.replayed, "replayed operations of the write-ahead log");
    }
    recovered.on_bus = worker.carried.len();
    worker.ask_the_bus().await?;
    Ok(recovered)
}

/// The next operations of the log, up to `size` and about [`BATCH_BYTES`].
fn next_batch(pending: &mut Replay, size: usize) -> Result<Vec<Entry>, WalError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < size && bytes < BATCH_BYTES {
        let Some(entry) = pending.next() else { break };
        let entry = entry?;
        bytes += entry.operation.len();
        batch.push(entry);
    }
    Ok(batch)
}

/// The number of starts that have begun an operation again without finishing it, from which on it is a suspect.
const SUSPECT: u32 = 2;

async fn replay(worker: &Worker, run: Vec<Entry>, recovered: &mut Recovered) -> Result<(), Fault> {
    if worker.stop.is_requested() {
        return Ok(());
    }
    let mut operations = Vec::with_capacity(run.len());
    for entry in run {
        if worker.carried.keep(&entry.operation_id, entry.origin.as_ref(), &worker.epoch) {
            continue;
        }
        match Event::from_json(&entry.operation, &worker.settings.limits) {
            Ok(event) => {
                operations.push(Operation::replayed(entry.operation_id, event, entry.replays).within(&worker.targets));
            }
            Err(invalid) => {
                warn!(operation = entry.operation_id, error = %invalid, "a logged operation breaks a current limit");
                if !end_unreadable(worker, &entry, &invalid).await? {
                    return Ok(());
                }
                recovered.unreadable += 1;
            }
        }
    }
    let max = worker.settings.worker.max_deliveries;
    let (fatal, operations): (Vec<_>, Vec<_>) = operations.into_iter().partition(|o| o.tries >= max);
    give_up(worker, fatal, recovered).await?;
    if operations.is_empty() {
        return Ok(());
    }
    let Some(operations) = worker.behind_waiting(operations).await? else { return Ok(()) };
    if operations.is_empty() {
        return Ok(());
    }
    recovered.replayed += operations.len() as u64;
    worker.progress.took(&operations);
    worker.log.begin_again(&operations).await?;
    worker.carry_to_the_end(operations).await
}

/// Ends a logged operation that is not accepted as an event: one that a setting refuses is set aside, any other is
/// dead-lettered. False if the worker was stopped first.
async fn end_unreadable(worker: &Worker, entry: &Entry, invalid: &Invalid) -> Result<bool, Fault> {
    // If the bus still has its entry, the bus hands it out again, and the entry gets a letter of its own.
    let letter = envelope::unreadable(&entry.operation, invalid, &worker.targets, worker.clock.now());
    if let Some(event) = letter.as_ref().and_then(|letter| envelope::waiting(&entry.operation_id, invalid, letter))
        && worker.settings.worker.hold
    {
        let parked = worker.park(&[event]).await?;
        if parked {
            worker.log.complete(&[Ending { operation: &entry.operation_id, error: None }]).await?;
        }
        return Ok(parked);
    }
    if !worker.dead_letter(letter.as_slice()).await? {
        return Ok(false);
    }
    let ending = Ending { operation: &entry.operation_id, error: Some(invalid.to_string()) };
    worker.log.complete(&[ending]).await?;
    Ok(true)
}

/// Dead-letters the operations that were begun too often without being finished.
async fn give_up(worker: &Worker, operations: Vec<Operation>, recovered: &mut Recovered) -> Result<(), Fault> {
    for operation in operations {
        let fault = envelope::fatal(operation.tries);
        let letter = operation.letter(&fault, &worker.targets, worker.clock.now());
        if !worker.dead_letter(&[letter]).await? {
            return Ok(());
        }
        worker.given_up.note(&operation.event);
        worker.log.complete(&[Ending { operation: &operation.id, error: Some(fault.to_string()) }]).await?;
        recovered.given_up += 1;
    }
    Ok(())
}
