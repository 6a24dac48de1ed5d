//! Drains the outbox of one store: hands the newest state of each chunk that the store misses to the delivery, and
//! removes from the outbox what the store has taken.
//!
//! # What a crash does
//! A write is removed from the outbox after the store has taken it. A crash before the removal sends it once more, and
//! its version guards it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chunk_sync_model::SyncVersion;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::warn;
use uuid::Uuid;

use super::access::StoreAccess;
use super::backlog::{Backlog, CALL_BYTES, WriteBatch, WriteResult};
use crate::pipeline::claims::Claims;
use crate::ports::{Fault, PendingWrite, Row, Write};
use crate::runtime::failpoint::{self, CrashPoint};

/// The most pending writes that are handed over at once.
const MOST: usize = 256;

/// The number of rows that are read at once: their bytes are known only then.
const ROWS: usize = 32;

/// The outbox of one store, as its store writer drains it.
pub(super) struct OutboxDrain {
    claims: Claims,
    /// Pending writes that the store refuses, each with the refused version.
    refused: BTreeMap<Uuid, SyncVersion>,
    /// Living chunks whose row is absent: there is no state to send until the row shows again or the chunk is deleted.
    unseen: BTreeSet<Uuid>,
    /// Writes that were handed to the delivery.
    open: Vec<Open>,
}

/// A write that was handed to the delivery.
struct Open {
    pending_write: PendingWrite,
    /// The version of the state that is sent.
    version: SyncVersion,
    answer: oneshot::Receiver<Vec<WriteResult>>,
}

/// What was found in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Writes were handed to the delivery, and there may be more.
    Writes,
    /// All that is left is claimed: the store has not answered those writes yet, so its condition is unknown.
    Claimed,
    /// Nothing is left that the store could take now.
    Rest,
    /// All that is left is refused, until its chunks change.
    Refused,
    /// Nothing is left.
    Nothing,
}

impl OutboxDrain {
    pub(super) fn new(claims: Claims) -> Self {
        Self { claims, refused: BTreeMap::new(), unseen: BTreeSet::new(), open: Vec::new() }
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Hands the next pending writes to the delivery; `isolates` states whether it sends writes apart. It skips writes that
    /// the store refused in this version, those that are sent apart, and claimed chunks, whose writes are sent directly.
    ///
    /// The ids of those that it skips are read each time. Reading on behind the last one would miss a write whose version
    /// has risen, which keeps its place, and one that is committed late, which gets a place before others.
    pub(super) async fn fill(
        &mut self,
        access: &StoreAccess,
        backlog: &mut Backlog,
        isolates: bool,
    ) -> Result<Found, Fault> {
        let batch = access.settings.store_batch.clamp(1, MOST);
        let skipped = self.refused.len() + self.unseen.len() + self.claims.len() + backlog.len();
        let limit = batch + skipped;
        let mut pending_writes = access.records.pending_writes(access.target(), limit).await?;
        if pending_writes.len() < limit {
            // The page has all there are: a refused write that is no longer among them has been sent or removed
            // otherwise.
            let left: HashSet<Uuid> = pending_writes.iter().map(|pending_write| pending_write.id).collect();
            self.refused.retain(|id, _| left.contains(id));
            access.condition.set_refused(self.refused.len());
        }
        let is_refused = |write: &PendingWrite| self.refused.get(&write.id).is_some_and(|held| *held >= write.version);
        pending_writes.retain(|write| !is_refused(write) && !self.unseen.contains(&write.id));
        pending_writes.retain(|write| !backlog.contains(write.id));
        let found = pending_writes.len();
        pending_writes.retain(|write| !self.claims.contains(write.id));
        if pending_writes.is_empty() {
            return Ok(self.without_writes(found > 0, access, isolates));
        }
        pending_writes.truncate(batch);
        self.hand_over(access, backlog, &pending_writes).await?;
        Ok(Found::Writes)
    }

    fn without_writes(&mut self, claimed: bool, access: &StoreAccess, isolates: bool) -> Found {
        if claimed {
            return Found::Claimed;
        }
        access.condition.set_behind(false);
        // Their rows may show again.
        let rest = !std::mem::take(&mut self.unseen).is_empty();
        match rest || isolates {
            true => Found::Rest,
            false if self.refused.is_empty() => Found::Nothing,
            false => Found::Refused,
        }
    }

    /// Reads the recorded states, a bounded number of bytes.
    async fn hand_over(
        &mut self,
        access: &StoreAccess,
        backlog: &mut Backlog,
        pending_writes: &[PendingWrite],
    ) -> Result<(), Fault> {
        let mut bytes = 0;
        for pending_writes in pending_writes.chunks(ROWS) {
            let ids: Vec<Uuid> = pending_writes.iter().map(|pending_write| pending_write.id).collect();
            let rows = access.records.rows_of(&ids).await?;
            for (pending_write, row) in pending_writes.iter().zip(rows) {
                match state(pending_write, row) {
                    Some(write) => {
                        bytes += write.weight();
                        let batch = self.open(*pending_write, write);
                        backlog.add(batch);
                    }
                    None => drop(self.unseen.insert(pending_write.id)),
                }
            }
            if bytes > CALL_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// A write that the outbox holds since now, for the delivery.
    pub(super) fn adopt(&mut self, pending_write: PendingWrite, write: Write) -> WriteBatch {
        self.open(pending_write, write)
    }

    fn open(&mut self, pending_write: PendingWrite, write: Write) -> WriteBatch {
        let (done, answer) = oneshot::channel();
        self.open.push(Open { pending_write, version: write.version, answer });
        WriteBatch { writes: [write].into(), enqueued: true, from_outbox: true, done }
    }

    /// Removes from the outbox what the store has taken.
    pub(super) async fn clear_durable(&mut self, access: &StoreAccess) {
        let mut durable = Vec::new();
        let mut open = std::mem::take(&mut self.open);
        open.retain_mut(|open| match open.answer.try_recv() {
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Closed) => false,
            Ok(results) => {
                match results.into_iter().next() {
                    Some(WriteResult::Durable) => durable.push(open.pending_write),
                    Some(WriteResult::Refused(fault)) => self.refuse(access, open, &fault),
                    Some(WriteResult::Pending) | None => {}
                }
                false
            }
        });
        self.open = open;
        if durable.is_empty() {
            return;
        }
        failpoint::reached(CrashPoint::Drained);
        if let Err(fault) = access.records.drained(&durable).await {
            warn!(%fault, writes = durable.len(), "could not clear drained writes from the outbox; resending");
        }
        for pending_write in &durable {
            self.refused.remove(&pending_write.id);
        }
        access.condition.set_refused(self.refused.len());
    }

    fn refuse(&mut self, access: &StoreAccess, open: &Open, fault: &Fault) {
        let (target, chunk) = (access.target(), open.pending_write.id);
        warn!(%target, %chunk, %fault, "the store refused a pending write; kept until the chunk changes");
        self.refused.insert(chunk, open.version.max(open.pending_write.version));
        access.condition.set_refused(self.refused.len());
    }
}

/// The recorded state of a pending write; `None` for a living chunk whose row is absent.
fn state(pending_write: &PendingWrite, row: Option<Row>) -> Option<Write> {
    if row.as_ref().is_some_and(|row| row.state.is_none() && row.lives == Some(true)) {
        return None;
    }
    let (version, state) = row.map_or((pending_write.version, None), |row| (row.version, row.state));
    Some(Write { id: pending_write.id, version, state, vectors_since: version })
}
