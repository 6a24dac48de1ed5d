//! Recovery: what the log has as pending goes the same way again, from the merge on, before anything new is read.
//!
//! Replaying twice is replaying once: a change that was merged merges to nothing, a store that has the state skips it, and
//! whatever is missing anywhere is written.

use chunk_sync_model::Event;
use chunk_sync_wal::{Entry, Recovery};
use tracing::{info, warn};

use crate::log::Ending;
use crate::operation::Operation;
use crate::ports::{Fault, FaultClass};
use crate::worker::Worker;

/// What was found in the log at the start, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Operations carried again.
    pub replayed: u64,
    /// Operations that can no longer be read as events; their entries come again from the bus, or went to the dead letters.
    pub unreadable: u64,
    /// Damaged lines set aside.
    pub damaged: u64,
    /// The last line was torn, and was cut off.
    pub torn: bool,
}

/// Says what the log held, and carries again what is pending.
pub(crate) async fn recover(worker: &Worker, recovery: Recovery) -> Result<Recovered, Fault> {
    let mut recovered =
        Recovered { torn: recovery.torn.is_some(), damaged: recovery.damaged.len() as u64, ..Recovered::default() };
    for damage in &recovery.damaged {
        warn!(
            file = damage.file,
            line = damage.line,
            reason = damage.reason,
            "a damaged line in the log was set aside"
        );
    }
    if let Some(torn) = &recovery.torn {
        warn!(file = torn.file, line = torn.line, bytes = torn.bytes, "the torn last line of the log was cut off");
    }
    let mut pending = recovery.pending;
    loop {
        let size = worker.settings.worker.batch;
        // A batch is a few megabytes.
        let read = worker.log.aside(move || {
            let batch: Result<Vec<Entry>, _> = pending.by_ref().take(size).collect();
            (pending, batch)
        });
        let (rest, batch) = read.await;
        pending = rest;
        let batch = batch.map_err(|error| Fault::new(FaultClass::Disk, "write-ahead log", error))?;
        if batch.is_empty() || worker.stop.is_requested() {
            break;
        }
        replay(worker, batch, &mut recovered).await?;
        info!(replayed = recovered.replayed, "replaying the log");
    }
    Ok(recovered)
}

async fn replay(worker: &Worker, batch: Vec<Entry>, recovered: &mut Recovered) -> Result<(), Fault> {
    let mut operations = Vec::with_capacity(batch.len());
    for entry in batch {
        match Event::from_json(&entry.operation, &worker.settings.limits) {
            Ok(event) => operations.push(Operation::replayed(entry.operation_id, event)),
            Err(invalid) => {
                recovered.unreadable += 1;
                warn!(operation = entry.operation_id, error = %invalid, "a logged operation is no event by today's limits");
                let ending = Ending { operation: &entry.operation_id, error: Some(invalid.to_string()) };
                worker.log.complete(&[ending]).await?;
            }
        }
    }
    recovered.replayed += operations.len() as u64;
    worker.progress.took(&operations);
    match worker.carry(operations).await? {
        Some(batch) => worker.settler().settle(batch).await,
        None => Ok(()),
    }
}
