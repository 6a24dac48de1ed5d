//! A store writer sends writes to one store, in the order in which it receives them. While its store fails it retries
//! and the other store writers continue; after `worker.patience` the writes that the store misses are left to the
//! outbox, so that one store does not block the others.
//!
//! A store writer runs for one term of the lease. When the term is over it sends nothing to the store. A write that it
//! sent before may arrive late, after the next holder deleted the chunk there, and stores that remove deleted documents
//! forget the version with the document. So if an answer arrives after the term, the chunks are compared with the
//! record, and those with a newer version are put into the outbox for the new holder. If the process dies before that
//! answer, the scrubber has to find the late write.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chunk_sync_model::{SyncVersion, Target, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::pipeline::claims::{Claim, Claims};
use crate::ports::{Applied, Fault, PendingWrite, Records, Store, Write};
use crate::runtime::catch_panic::catch_panic;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::lease::Term;
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;
use crate::runtime::{clock, metrics};

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

/// The number of attempts to compare chunks whose write was answered after the term.
const CHECKS: u32 = 20;

/// Writes handed to a store writer, and where it answers.
struct WriteBatch {
    writes: Arc<[Write]>,
    /// The merge has put them into the outbox already.
    enqueued: bool,
    done: oneshot::Sender<Vec<WriteResult>>,
}

/// The handle of a store writer. Clones share it.
#[derive(Clone)]
pub(crate) struct StoreWriter {
    store: Arc<dyn Store>,
    batches: mpsc::Sender<WriteBatch>,
    condition: SharedCondition,
    claims: Claims,
}

/// The condition of a store, shared by its store writer and the reports.
pub(crate) type SharedCondition = Arc<Mutex<Condition>>;

/// The condition of a store.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Since when it has been failing, and its last fault.
    pub failing: Option<(Time, Fault)>,
    /// The store is behind: new writes for it go into the outbox, until the outbox is drained.
    pub behind: bool,
    /// Pending writes in the outbox that the store refuses: they stay there until their chunks change.
    pub refused: u64,
    /// Since when it has been failing, by the timer that also counts the pauses.
    failing_since: Option<tokio::time::Instant>,
}

impl Condition {
    /// The condition of a store that has been failing since then, with its last fault.
    #[must_use]
    pub fn of(failing: Option<(Time, Fault)>) -> Self {
        Self { failing, ..Self::default() }
    }
}

impl StoreWriter {
    /// Starts a writer to `store` for one term, and returns its handle and its task. The task ends when the last clone
    /// of the handle is dropped. `records` holds the outbox; `condition` outlives the writer.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        records: Arc<dyn Records>,
        settings: WorkerSettings,
        term: Term,
        condition: SharedCondition,
    ) -> (Self, JoinHandle<()>) {
        let (batches, inbox) = mpsc::channel(settings.in_flight.max(1));
        let claims = Claims::default();
        let store_writer =
            Self { store: Arc::clone(&store), batches, condition: Arc::clone(&condition), claims: claims.clone() };
        let (prepared, refused) = (AtomicBool::new(false), BTreeMap::new());
        let task = WriterTask { store, records, settings, term, condition, claims, prepared, refused };
        (store_writer, tokio::spawn(task.run(inbox)))
    }

    pub(crate) fn target(&self) -> Target {
        self.store.target()
    }

    /// The store, for reads: writes must go through [`Self::send`].
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the drain of the outbox away from these chunks until the claim is dropped.
    pub(crate) fn claim(&self, ids: Vec<Uuid>) -> Claim {
        self.claims.claim(ids)
    }

    /// Sends the writes. The answers, one per write, arrive when each is durable, pending in the outbox or refused; none
    /// arrive if the term ends first. `enqueued` if the merge has put the writes into the outbox.
    pub(crate) async fn send(&self, writes: Arc<[Write]>, enqueued: bool) -> oneshot::Receiver<Vec<WriteResult>> {
        let (done, answer) = oneshot::channel();
        // A writer that has ended drops the batch and its sender; the receiver reports that.
        let _ = self.batches.send(WriteBatch { writes, enqueued, done }).await;
        answer
    }
}

struct WriterTask {
    store: Arc<dyn Store>,
    records: Arc<dyn Records>,
    settings: WorkerSettings,
    term: Term,
    condition: SharedCondition,
    claims: Claims,
    /// Whether the store has been prepared: it may be down when the service starts.
    prepared: AtomicBool,
    /// Pending writes in the outbox that the store refuses, each with the refused version.
    refused: BTreeMap<Uuid, SyncVersion>,
}

/// The result of one attempt to drain the outbox of a store.
enum Drained {
    /// Nothing is left that the store could take.
    Empty,
    /// All that is left is claimed: the store has not answered those writes yet, so its condition is unknown.
    Claimed,
    /// The store took some writes, and there may be more.
    Sent,
}

impl WriterTask {
    async fn run(mut self, mut inbox: mpsc::Receiver<WriteBatch>) {
        let mut pending_writes = tokio::time::interval(self.settings.retry_max.min(std::time::Duration::from_secs(1)));
        pending_writes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                write_batch = inbox.recv() => match write_batch {
                    Some(write_batch) => {
                        if let Some(results) = self.deliver(&write_batch.writes, write_batch.enqueued).await {
                            // If the receiver is gone, the writes are repeated after a restart.
                            let _ = write_batch.done.send(results);
                        }
                    }
                    None => return,
                },
                _ = pending_writes.tick() => self.drain().await,
            }
        }
    }

    /// Writes until each write is durable, refused or pending in the outbox; `None` where the term ended first.
    async fn deliver(&self, writes: &[Write], enqueued: bool) -> Option<Vec<WriteResult>> {
        let mut results = Vec::with_capacity(writes.len());
        for batch in writes.chunks(self.settings.store_batch.max(1)) {
            results.extend(self.deliver_batch(batch, enqueued).await?);
        }
        Some(results)
    }

    async fn deliver_batch(&self, batch: &[Write], enqueued: bool) -> Option<Vec<WriteResult>> {
        let mut results: Vec<Option<WriteResult>> = vec![None; batch.len()];
        let mut pauses = Pauses::new(&self.settings);
        // Patience is counted by the same timer as the pauses.
        let began = tokio::time::Instant::now();
        loop {
            let open: Vec<usize> = (0..batch.len()).filter(|i| results[*i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            // The failure time counts across terms: a store that failed through terms shorter than the patience gets no
            // new patience in each term.
            let impatient = self.is_owing() || self.failing_for().max(began.elapsed()) > self.settings.patience;
            if impatient && self.leave(open.iter().map(|i| &batch[*i]), enqueued).await {
                open.iter().for_each(|i| results[*i] = Some(WriteResult::Pending));
                break;
            }
            let writes: Vec<Write> = open.iter().map(|i| batch[*i].clone()).collect();
            let answers = self.apply(&writes).await?;
            if answers.iter().any(Applied::is_durable) {
                failpoint::reached(CrashPoint::Stored);
            }
            for (i, answer) in open.iter().zip(answers) {
                results[*i] = match answer {
                    Applied::Written | Applied::Skipped => Some(WriteResult::Durable),
                    Applied::Failed(fault) if fault.class.is_transient() => None,
                    Applied::Failed(fault) => Some(WriteResult::Refused(fault)),
                };
            }
            if results.iter().any(Option::is_none) {
                tokio::time::sleep(pauses.next()).await;
            }
        }
        Some(results.into_iter().flatten().collect())
    }

    /// One attempt; `None` if the term ended before it or during it.
    async fn apply(&self, writes: &[Write]) -> Option<Vec<Applied>> {
        if !self.term.holds() {
            return None;
        }
        let started = Instant::now();
        let answers = match self.prepare().await {
            Ok(()) => self.apply_caught(writes).await,
            Err(fault) => vec![Applied::Failed(fault); writes.len()],
        };
        metrics::took(metrics::Operation::Apply(self.store.target()), started);
        let mut last = None;
        for (write, answer) in writes.iter().zip(&answers) {
            if let Applied::Failed(fault) = answer {
                metrics::failed(origin(write), self.store.target(), fault.class);
                last = Some(fault).filter(|fault| fault.class.is_transient()).or(last);
            }
        }
        self.observe(last);
        if !self.term.holds() {
            self.check_late_writes(writes).await;
            return None;
        }
        Some(answers)
    }

    /// Applies the writes together; if that panics, one by one.
    async fn apply_caught(&self, writes: &[Write]) -> Vec<Applied> {
        match catch_panic("apply", self.store.apply(writes)).await {
            Ok(answers) => answers,
            Err(fault) if writes.len() <= 1 => vec![Applied::Failed(fault); writes.len()],
            Err(_) => {
                let mut answers = Vec::with_capacity(writes.len());
                for write in writes.chunks(1) {
                    let answer = catch_panic("apply", self.store.apply(write)).await;
                    answers.extend(answer.unwrap_or_else(|fault| vec![Applied::Failed(fault)]));
                }
                answers
            }
        }
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if !self.prepared.load(Ordering::Relaxed) {
            self.store.prepare().await?;
            self.prepared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failing_for(&self) -> std::time::Duration {
        let condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        condition.failing_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    fn is_owing(&self) -> bool {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).behind
    }

    /// Records whether the store is failing, and logs when that changes.
    fn observe(&self, fault: Option<&Fault>) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.store.target();
        match (&condition.failing, fault) {
            (None, Some(fault)) => {
                warn!(%target, %fault, "the store failed; retrying while the other stores continue");
            }
            (Some((since, _)), None) => {
                info!(%target, %since, "the store answered again");
            }
            _ => {}
        }
        condition.failing_since = fault.map(|_| condition.failing_since.unwrap_or_else(tokio::time::Instant::now));
        condition.failing =
            fault.map(|fault| (condition.failing.as_ref().map_or(clock::now(), |(since, _)| *since), fault.clone()));
    }

    /// Makes sure that none of the writes undoes a change that another process has made to its chunk meanwhile.
    async fn check_late_writes(&self, writes: &[Write]) {
        let mut pauses = Pauses::new(&self.settings);
        for _ in 0..CHECKS {
            let Err(fault) = self.enqueue_overtaken(writes).await else { return };
            let target = self.store.target();
            warn!(%target, %fault, "the system of record failed; retrying to compare late writes");
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Puts the chunks that have a newer version by now into the outbox. A store that removes deleted documents forgets
    /// the version with the document: if another process deleted it just before the write arrived, the write has
    /// restored it.
    async fn enqueue_overtaken(&self, writes: &[Write]) -> Result<(), Fault> {
        let alive: Vec<&Write> = writes.iter().filter(|write| write.state.is_some()).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let rows = self.records.rows_of(&alive.iter().map(|write| write.id).collect::<Vec<_>>()).await?;
        let overtaken = alive.iter().zip(rows).filter_map(|(write, row)| {
            let version = row.map(|row| row.version).filter(|version| *version > write.version)?;
            Some(PendingWrite { id: write.id, target: self.store.target(), version })
        });
        let overtaken: Vec<PendingWrite> = overtaken.collect();
        if overtaken.is_empty() { Ok(()) } else { self.records.enqueue(&overtaken).await }
    }

    /// Leaves the writes to the outbox, which already has them if they are `enqueued`; whether that is durable.
    async fn leave(&self, writes: impl Iterator<Item = &Write>, enqueued: bool) -> bool {
        let target = self.store.target();
        let pending_writes: Vec<PendingWrite> =
            writes.map(|write| PendingWrite { id: write.id, target, version: write.version }).collect();
        let recorded = if enqueued { Ok(()) } else { self.records.enqueue(&pending_writes).await };
        match recorded {
            Ok(()) => {
                failpoint::reached(CrashPoint::Enqueued);
                self.condition.lock().unwrap_or_else(PoisonError::into_inner).behind = true;
                true
            }
            Err(fault) => {
                warn!(%target, %fault, "could not put the store's missing writes into the outbox; retrying the store");
                false
            }
        }
    }

    /// Drains the outbox of the store, the newest state of each chunk, until it is empty or the store fails.
    async fn drain(&mut self) {
        while self.term.holds() {
            match self.drain_some().await {
                Ok(Drained::Empty) => {
                    self.condition.lock().unwrap_or_else(PoisonError::into_inner).behind = false;
                    return;
                }
                Ok(Drained::Claimed) => return,
                Ok(Drained::Sent) => {}
                Err(fault) => {
                    self.observe(Some(&fault));
                    return;
                }
            }
        }
    }

    /// Sends one batch of pending writes. It skips writes that the store refused in this version, so that they do not
    /// block the others, and claimed chunks, whose writes are sent directly.
    async fn drain_some(&mut self) -> Result<Drained, Fault> {
        let batch = self.settings.store_batch.max(1);
        let limit = batch + self.refused.len() + self.claims.len();
        let pending_writes = self.records.pending_writes(self.store.target(), limit).await?;
        if pending_writes.len() < limit {
            // The page has all there are: a refused write that is no longer among them has been sent or removed
            // otherwise.
            self.refused.retain(|id, _| pending_writes.iter().any(|pending_write| pending_write.id == *id));
            self.show_refused();
        }
        let ids: Vec<_> = pending_writes.iter().map(|pending_write| pending_write.id).collect();
        let rows = if ids.is_empty() { Vec::new() } else { self.records.rows_of(&ids).await? };
        let write = |(pending_write, row): (PendingWrite, Option<crate::ports::Row>)| {
            let (version, state) = row.map_or((pending_write.version, None), |row| (row.version, row.state));
            (pending_write, Write { id: pending_write.id, version, state, vectors_since: version })
        };
        let due = pending_writes.into_iter().zip(rows).map(write);
        let due = due.filter(|(pending_write, write)| self.refused.get(&pending_write.id) != Some(&write.version));
        let (claimed, due): (Vec<_>, Vec<_>) =
            due.partition(|(pending_write, _)| self.claims.contains(pending_write.id));
        let (pending_writes, writes): (Vec<PendingWrite>, Vec<Write>) = due.into_iter().take(batch).unzip();
        if pending_writes.is_empty() {
            return Ok(if claimed.is_empty() { Drained::Empty } else { Drained::Claimed });
        }
        // The term is over: the condition of the rest is unknown.
        let Some(answers) = self.apply(&writes).await else { return Ok(Drained::Claimed) };
        let (mut settled, mut failed) = (Vec::new(), None);
        for ((pending_write, write), answer) in pending_writes.iter().zip(&writes).zip(answers) {
            match answer {
                Applied::Written | Applied::Skipped => settled.push(*pending_write),
                Applied::Failed(fault) if fault.class.is_transient() => failed = Some(fault),
                Applied::Failed(fault) => self.refuse(write, &fault),
            }
        }
        failpoint::reached(CrashPoint::Drained);
        self.records.drained(&settled).await?;
        self.refused.retain(|id, _| settled.iter().all(|pending_write| pending_write.id != *id));
        self.show_refused();
        failed.map_or(Ok(Drained::Sent), Err)
    }

    fn refuse(&mut self, write: &Write, fault: &Fault) {
        let (target, chunk) = (self.store.target(), write.id);
        warn!(%target, %chunk, %fault, "the store refused a pending write; kept until the chunk changes");
        self.refused.insert(write.id, write.version);
        self.show_refused();
    }

    fn show_refused(&self) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        condition.refused = self.refused.len() as u64;
    }
}

/// The `system_origin` of the chunk; of a deleted chunk it is no longer known and counted as `hybrid`.
fn origin(write: &Write) -> &'static str {
    write.state.as_ref().map_or("hybrid", |state| state.chunk.system_origin.as_str())
}
