//! Drains the outbox of one store: sends the newest state of each chunk that the store misses.

use std::collections::BTreeMap;

use chunk_sync_model::SyncVersion;
use tracing::warn;
use uuid::Uuid;

use super::access::StoreAccess;
use crate::pipeline::claims::Claims;
use crate::ports::{Applied, Fault, PendingWrite, Policy, Row, Write};
use crate::runtime::failpoint::{self, CrashPoint};

/// The most pending writes that are sent at once: their states are read without a limit of bytes.
const MOST: usize = 256;

/// The outbox of one store, as its store writer drains it.
pub(super) struct OutboxDrain {
    pub(super) claims: Claims,
    /// Pending writes that the store refuses, each with the refused version.
    pub(super) refused: BTreeMap<Uuid, SyncVersion>,
}

/// What is left in the outbox of a store after an attempt to drain it.
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Something, or it is unknown.
    Something,
}

/// The result of one attempt to send pending writes.
enum Drained {
    /// Nothing is left that the store could take.
    Empty,
    /// All that is left is claimed: the store has not answered those writes yet, so its condition is unknown.
    Claimed,
    /// The store took some writes, and there may be more.
    Sent,
}

impl OutboxDrain {
    /// Sends pending writes until none are left or the store fails.
    pub(super) async fn run(&mut self, access: &StoreAccess) -> Rest {
        while access.term.holds() {
            match self.send_some(access).await {
                Ok(Drained::Empty) => {
                    access.condition.set_behind(false);
                    return if self.refused.is_empty() { Rest::Nothing } else { Rest::Something };
                }
                Ok(Drained::Claimed) => return Rest::Something,
                Ok(Drained::Sent) => {}
                Err(fault) => {
                    access.condition.observe(access.target(), Some(&fault));
                    return Rest::Something;
                }
            }
        }
        Rest::Something
    }

    /// Sends one batch of pending writes. It skips writes that the store refused in this version, so that they do not
    /// block the others, and claimed chunks, whose writes are sent directly.
    async fn send_some(&mut self, access: &StoreAccess) -> Result<Drained, Fault> {
        let batch = access.settings.store_batch.clamp(1, MOST);
        let limit = batch + self.refused.len() + self.claims.len();
        let pending_writes = access.records.pending_writes(access.target(), limit).await?;
        if pending_writes.len() < limit {
            // The page has all there are: a refused write that is no longer among them has been sent or removed
            // otherwise.
            self.refused.retain(|id, _| pending_writes.iter().any(|pending_write| pending_write.id == *id));
            access.condition.set_refused(self.refused.len());
        }
        let due = with_states(access, pending_writes).await?.into_iter();
        let due = due.filter(|(pending_write, write)| self.refused.get(&pending_write.id) != Some(&write.version));
        let (claimed, due): (Vec<_>, Vec<_>) =
            due.partition(|(pending_write, _)| self.claims.contains(pending_write.id));
        let (pending_writes, writes): (Vec<PendingWrite>, Vec<Write>) = due.into_iter().take(batch).unzip();
        if pending_writes.is_empty() {
            return Ok(if claimed.is_empty() { Drained::Empty } else { Drained::Claimed });
        }
        // The term is over: the condition of the rest is unknown.
        let Some(answers) = access.apply(&writes).await else { return Ok(Drained::Claimed) };
        let (mut settled, mut failed) = (Vec::new(), None);
        for ((pending_write, write), answer) in pending_writes.iter().zip(&writes).zip(answers) {
            match answer {
                Applied::Written | Applied::Skipped => settled.push(*pending_write),
                Applied::Failed(fault) => match fault.policy() {
                    Policy::DeadLetter => self.refuse(access, write, &fault),
                    Policy::RetryAlone | Policy::Wait | Policy::Stop => failed = Some(fault),
                },
            }
        }
        failpoint::reached(CrashPoint::Drained);
        access.records.drained(&settled).await?;
        self.refused.retain(|id, _| settled.iter().all(|pending_write| pending_write.id != *id));
        access.condition.set_refused(self.refused.len());
        failed.map_or(Ok(Drained::Sent), Err)
    }

    fn refuse(&mut self, access: &StoreAccess, write: &Write, fault: &Fault) {
        let (target, chunk) = (access.target(), write.id);
        warn!(%target, %chunk, %fault, "the store refused a pending write; kept until the chunk changes");
        self.refused.insert(write.id, write.version);
        access.condition.set_refused(self.refused.len());
    }
}

/// The recorded state of each pending write. A living chunk whose row is absent has no state to send: its pending write
/// waits until the row shows again or the chunk is deleted.
async fn with_states(
    access: &StoreAccess,
    pending_writes: Vec<PendingWrite>,
) -> Result<Vec<(PendingWrite, Write)>, Fault> {
    let ids: Vec<_> = pending_writes.iter().map(|pending_write| pending_write.id).collect();
    let rows = if ids.is_empty() { Vec::new() } else { access.records.rows_of(&ids).await? };
    let write = |(pending_write, row): (PendingWrite, Option<Row>)| {
        let (version, state) = row.map_or((pending_write.version, None), |row| (row.version, row.state));
        (pending_write, Write { id: pending_write.id, version, state, vectors_since: version })
    };
    let is_unseen = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.state.is_none() && row.lives == Some(true));
    Ok(pending_writes.into_iter().zip(rows).filter(|(_, row)| !is_unseen(row)).map(write).collect())
}
