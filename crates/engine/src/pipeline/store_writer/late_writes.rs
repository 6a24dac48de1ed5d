//! Late writes: a write that was sent within a term and answered after it may have arrived after the next holder of the
//! lease deleted the chunk. A store that removes deleted documents forgets the version with the document, and so the
//! write has restored the chunk.

use chunk_sync_model::Target;
use tracing::warn;
use uuid::Uuid;

use crate::ports::{Fault, PendingWrite, Records, Write, each_row};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;

/// The number of attempts to compare chunks whose write was answered after the term.
const CHECKS: u32 = 20;

/// Makes sure that none of the writes undoes a change that another process has made to its chunk meanwhile.
pub(super) async fn check(records: &dyn Records, settings: &WorkerSettings, target: Target, writes: &[Write]) {
    let mut pauses = Pauses::new(settings);
    for _ in 0..CHECKS {
        let Err(fault) = enqueue_overtaken(records, target, writes).await else { return };
        warn!(%target, %fault, "the system of record failed; retrying to compare late writes");
        tokio::time::sleep(pauses.next()).await;
    }
}

/// Puts the chunks that have a newer version by now into the outbox.
async fn enqueue_overtaken(records: &dyn Records, target: Target, writes: &[Write]) -> Result<(), Fault> {
    let alive: Vec<&Write> = writes.iter().filter(|write| write.state.is_some()).collect();
    if alive.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = alive.iter().map(|write| write.id).collect();
    let overtaken = each_row(records, &ids, |i, row| {
        let version = row.map(|row| row.version).filter(|version| *version > alive[i].version)?;
        Some(PendingWrite { id: ids[i], target, version })
    });
    let overtaken: Vec<PendingWrite> = overtaken.await?.into_iter().flatten().collect();
    if overtaken.is_empty() { Ok(()) } else { records.enqueue(&overtaken).await }
}
