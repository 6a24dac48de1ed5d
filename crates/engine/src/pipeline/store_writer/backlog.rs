//! What waits for one store: the writes of all batches that it has not answered, joined and folded. Pure: no I/O.
//!
//! A write is a whole state, so of several writes of one chunk only the newest has to be sent; its answer holds for the
//! older ones too, because the store then holds them or a newer state. If the store refuses the newest, the refusal may
//! be the fault of that write alone: the older ones are then sent one by one, in their order, so that an innocent event
//! gets no dead letter.
//!
//! Nothing here is durable, and nothing needs to be: a write is answered only after the store or the outbox holds it.
//! After a crash the log or the outbox has every write that was not answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chunk_sync_model::SyncVersion;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::ports::{Fault, Write};

/// The result of one write.
#[derive(Clone, Debug)]
pub(crate) enum WriteResult {
    /// The store holds it, or a newer one.
    Durable,
    /// The store misses it, and the outbox has it.
    Pending,
    /// The store can never take it.
    Refused(Fault),
}

/// The size of one call, in bytes.
pub(super) const CALL_BYTES: usize = 4 << 20;

/// Writes handed to a store writer, and where it answers.
pub(super) struct WriteBatch {
    pub(super) writes: Arc<[Write]>,
    /// They are in the outbox already.
    pub(super) enqueued: bool,
    /// They were read from the outbox: the store needs them whatever it answered before.
    pub(super) from_outbox: bool,
    pub(super) done: oneshot::Sender<Vec<WriteResult>>,
}

/// The writes of all batches that are not answered yet.
#[derive(Default)]
pub(super) struct Backlog {
    batches: BTreeMap<u64, OpenBatch>,
    chunks: BTreeMap<Uuid, Waiting>,
    /// Chunks with writes that were not sent yet, in the order of arrival.
    fresh: VecDeque<Uuid>,
    /// Chunks with writes that failed and are repeated after a pause.
    failed: Vec<Uuid>,
    next: u64,
}

/// A batch of which some writes are not answered yet.
struct OpenBatch {
    batch: WriteBatch,
    results: Vec<Option<WriteResult>>,
    open: usize,
}

/// The writes of one chunk that are not answered yet, in the order of arrival.
struct Waiting {
    writes: VecDeque<BatchIndex>,
    /// The newest was refused: the others are sent one by one.
    alone: bool,
    /// When the store was first sent one that it failed to take.
    failing_since: Option<Instant>,
}

/// A write in its batch.
#[derive(Clone, Copy)]
struct BatchIndex {
    batch: u64,
    index: usize,
}

/// The write to send for a chunk.
pub(super) struct Due {
    pub(super) write: Write,
    /// It is in the outbox already.
    pub(super) enqueued: bool,
    /// No batch waits for it: it was read from the outbox.
    pub(super) from_outbox: bool,
    /// When the store was first sent a write of this chunk that it failed to take.
    pub(super) failing_since: Option<Instant>,
    taken: Instant,
    /// The number of waiting writes that it stands for.
    stands_for: usize,
}

impl Backlog {
    /// The number of chunks.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn contains(&self, id: Uuid) -> bool {
        self.chunks.contains_key(&id)
    }

    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Adds a batch behind all that waits.
    pub(super) fn add(&mut self, batch: WriteBatch) {
        let (number, open) = (self.next, batch.writes.len());
        self.next += 1;
        for (index, write) in batch.writes.iter().enumerate() {
            let source = BatchIndex { batch: number, index };
            match self.chunks.get_mut(&write.id) {
                Some(waiting) => waiting.writes.push_back(source),
                None => {
                    let waiting = Waiting { writes: VecDeque::from([source]), alone: false, failing_since: None };
                    self.chunks.insert(write.id, waiting);
                    self.fresh.push_back(write.id);
                }
            }
        }
        let open_batch = OpenBatch { batch, results: vec![None; open], open };
        self.batches.insert(number, open_batch);
        self.answer_if_complete(number);
    }

    /// Drops everything without an answer.
    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// Makes what failed due again: before what has not been sent yet if a batch waits for it, else after it.
    pub(super) fn retry_failed(&mut self) {
        for id in std::mem::take(&mut self.failed).into_iter().rev() {
            if self.due(id).is_some_and(|due| due.from_outbox) {
                self.fresh.push_back(id);
            } else {
                self.fresh.push_front(id);
            }
        }
    }

    /// Takes the writes to send next, one per chunk: at most so many, and at least one, of about so many bytes. Each
    /// must be reported by [`Self::failed`] or [`Self::answer`].
    pub(super) fn take(&mut self, most: usize, bytes: usize) -> Vec<Due> {
        let (mut due, mut size) = (Vec::new(), 0_usize);
        while due.len() < most {
            let Some(next) = self.fresh.front().and_then(|id| self.due(*id)) else { break };
            size += next.write.weight();
            if size > bytes && !due.is_empty() {
                break;
            }
            self.fresh.pop_front();
            due.push(next);
        }
        due
    }

    /// The write to send for a chunk: all of its writes folded, or only the oldest if they are sent one by one.
    pub(super) fn due(&self, id: Uuid) -> Option<Due> {
        let waiting = self.chunks.get(&id)?;
        let stands_for = if waiting.alone { 1 } else { waiting.writes.len() };
        let mut writes = waiting.writes.iter().take(stands_for).filter_map(|source| self.write(*source));
        let (first, batch) = writes.next()?;
        let (mut write, mut enqueued, mut from_outbox) = (first.clone(), batch.enqueued, batch.from_outbox);
        for (next, batch) in writes {
            enqueued &= batch.enqueued;
            from_outbox &= batch.from_outbox;
            write = fold(write, next);
        }
        Some(Due {
            write,
            enqueued,
            from_outbox,
            failing_since: waiting.failing_since,
            taken: Instant::now(),
            stands_for,
        })
    }

    fn write(&self, source: BatchIndex) -> Option<(&Write, &WriteBatch)> {
        let OpenBatch { batch, .. } = self.batches.get(&source.batch)?;
        Some((batch.writes.get(source.index)?, batch))
    }

    /// The write failed and can be repeated.
    pub(super) fn failed(&mut self, due: &Due) {
        if self.chunks.contains_key(&due.write.id) {
            self.note_failure(due);
            self.failed.push(due.write.id);
        }
    }

    /// The write failed, and the caller repeats it.
    pub(super) fn note_failure(&mut self, due: &Due) {
        if let Some(waiting) = self.chunks.get_mut(&due.write.id) {
            waiting.failing_since.get_or_insert(due.taken);
        }
    }

    /// Records the result of a write for every write that it stands for, and answers the batches that have all of
    /// their results.
    pub(super) fn answer(&mut self, due: &Due, result: &WriteResult) {
        let Some(waiting) = self.chunks.get_mut(&due.write.id) else { return };
        let covered: Vec<BatchIndex> = waiting.writes.drain(..due.stands_for.min(waiting.writes.len())).collect();
        let refused = matches!(result, WriteResult::Refused(_));
        let (answered, again): (Vec<BatchIndex>, Vec<BatchIndex>) =
            covered.into_iter().partition(|source| !refused || self.version(*source) == Some(due.write.version));
        let Some(waiting) = self.chunks.get_mut(&due.write.id) else { return };
        waiting.failing_since = None;
        waiting.alone |= !again.is_empty();
        for source in again.into_iter().rev() {
            waiting.writes.push_front(source);
        }
        if waiting.writes.is_empty() {
            self.chunks.remove(&due.write.id);
        } else {
            self.fresh.push_back(due.write.id);
        }
        for source in answered {
            self.record(source, result.clone());
        }
    }

    /// Answers a write as pending, and keeps it as one from the outbox, which the caller sends apart.
    pub(super) fn rest(&mut self, due: &Due, from_outbox: WriteBatch) {
        self.answer(due, &WriteResult::Pending);
        self.add(from_outbox);
        self.fresh.retain(|id| *id != due.write.id);
    }

    fn version(&self, source: BatchIndex) -> Option<SyncVersion> {
        self.write(source).map(|(write, _)| write.version)
    }

    fn record(&mut self, source: BatchIndex, result: WriteResult) {
        let Some(open) = self.batches.get_mut(&source.batch) else { return };
        if let Some(slot) = open.results.get_mut(source.index)
            && slot.replace(result).is_none()
        {
            open.open -= 1;
        }
        self.answer_if_complete(source.batch);
    }

    fn answer_if_complete(&mut self, number: u64) {
        if self.batches.get(&number).is_some_and(|open| open.open == 0)
            && let Some(OpenBatch { batch, results, .. }) = self.batches.remove(&number)
        {
            // If the receiver is gone, the writes are repeated after a restart.
            let _ = batch.done.send(results.into_iter().flatten().collect());
        }
    }
}

/// One write instead of two of the same chunk, the newer of them. If the newer one allows a store that holds the older
/// version to leave its vectors as they are, what the older one allows holds for both.
fn fold(older: Write, newer: &Write) -> Write {
    if newer.version < older.version {
        return older;
    }
    let mut folded = newer.clone();
    if older.state.is_some() && newer.vectors_since <= older.version {
        folded.vectors_since = newer.vectors_since.min(older.vectors_since);
    }
    folded
}

#[cfg(test)]
mod tests;
