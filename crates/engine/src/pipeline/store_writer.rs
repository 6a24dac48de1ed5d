//! A lane leads to one store. What it is handed it writes in order, alone: while its store fails it tries again, the
//! other lanes go on, and after a while the store owes what it misses instead of holding everybody up.
//!
//! A lane lives for one term of the lease. When the term is over it sends nothing to the store. A write that it sent before
//! may arrive late, after the next holder deleted the chunk there, and stores that really delete forget the version with
//! the chunk. So where an answer comes after the term, the chunks are compared with the record, and those that moved on are
//! put into the outbox for the new holder. A process that dies before that answer leaves the late write to the scrubber.

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
use crate::ports::{Applied, Debt, Fault, Records, Store, Write};
use crate::runtime::catch_panic::caught;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::lease::Term;
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;
use crate::runtime::{clock, metrics};

/// What became of one write.
#[derive(Clone, Debug)]
pub(crate) enum Landed {
    /// The store holds it, or a newer one.
    Durable,
    /// The store misses it, and the outbox has it.
    Pending,
    /// The store can never take it.
    Refused(Fault),
}

/// How often it is tried to compare chunks whose write was answered after the term.
const LOOKS: u32 = 20;

/// Writes handed to a lane, and where it answers.
struct Parcel {
    writes: Arc<[Write]>,
    /// The merge has put them into the outbox already.
    enqueued: bool,
    done: oneshot::Sender<Vec<Landed>>,
}

/// The way to one store.
#[derive(Clone)]
pub(crate) struct Lane {
    store: Arc<dyn Store>,
    parcels: mpsc::Sender<Parcel>,
    condition: SharedCondition,
    claims: Claims,
}

/// How a store is doing, for its lane and for reports.
pub(crate) type SharedCondition = Arc<Mutex<Condition>>;

/// How the store of a lane is doing.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Since when it has been failing, and its last fault.
    pub failing: Option<(Time, Fault)>,
    /// What is merged now is recorded as its debt.
    pub owing: bool,
    /// Pending writes in the outbox that the store refuses: they stay there until their chunks change.
    pub refused: u64,
    /// Since when it has been failing, by the timer that pauses are counted by.
    failing_since: Option<tokio::time::Instant>,
}

impl Condition {
    /// That of a store which has been failing since then, with its last fault.
    #[must_use]
    pub fn of(failing: Option<(Time, Fault)>) -> Self {
        Self { failing, ..Self::default() }
    }
}

impl Lane {
    /// A lane to `store` for one term, and what drives it, which ends when the last clone is dropped; debts are kept beside
    /// the rows. `condition` outlives the lane.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        records: Arc<dyn Records>,
        settings: WorkerSettings,
        term: Term,
        condition: SharedCondition,
    ) -> (Self, JoinHandle<()>) {
        let (parcels, inbox) = mpsc::channel(settings.in_flight.max(1));
        let claims = Claims::default();
        let lane =
            Self { store: Arc::clone(&store), parcels, condition: Arc::clone(&condition), claims: claims.clone() };
        let (prepared, refused) = (AtomicBool::new(false), BTreeMap::new());
        let driver = Driver { store, records, settings, term, condition, claims, prepared, refused };
        (lane, tokio::spawn(driver.run(inbox)))
    }

    pub(crate) fn target(&self) -> Target {
        self.store.target()
    }

    /// The store at its end, to look at: what is written goes by the lane.
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

    /// Sends the writes; the answers, one per write, come when each is durable, pending in the outbox or refused. None come
    /// if the term ends first. `enqueued` if the merge has put the writes into the outbox.
    pub(crate) async fn send(&self, writes: Arc<[Write]>, enqueued: bool) -> oneshot::Receiver<Vec<Landed>> {
        let (done, answer) = oneshot::channel();
        // A writer that has ended drops the parcel and its sender; the receiver reports that.
        let _ = self.parcels.send(Parcel { writes, enqueued, done }).await;
        answer
    }
}

struct Driver {
    store: Arc<dyn Store>,
    records: Arc<dyn Records>,
    settings: WorkerSettings,
    term: Term,
    condition: SharedCondition,
    claims: Claims,
    /// Whether what the store needs is there: a store may be down when the service starts.
    prepared: AtomicBool,
    /// Debts that the store refuses, each with the version it refused.
    refused: BTreeMap<Uuid, SyncVersion>,
}

/// What one go at the outbox of a store came to.
enum Drained {
    /// Nothing is left that the store could take.
    Empty,
    /// All that is left is claimed: the store has not answered for it yet, and nothing is known of how it is doing.
    Claimed,
    /// The store took some, and there may be more.
    Sent,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Parcel>) {
        let mut debts = tokio::time::interval(self.settings.retry_max.min(std::time::Duration::from_secs(1)));
        debts.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                parcel = inbox.recv() => match parcel {
                    Some(parcel) => {
                        if let Some(landed) = self.deliver(&parcel.writes, parcel.enqueued).await {
                            // If the receiver is gone, the writes are repeated after a restart.
                            let _ = parcel.done.send(landed);
                        }
                    }
                    None => return,
                },
                _ = debts.tick() => self.pay().await,
            }
        }
    }

    /// Writes until each write is durable, refused or pending in the outbox; `None` where the term ended first.
    async fn deliver(&self, writes: &[Write], enqueued: bool) -> Option<Vec<Landed>> {
        let mut landed = Vec::with_capacity(writes.len());
        for batch in writes.chunks(self.settings.store_batch.max(1)) {
            landed.extend(self.deliver_batch(batch, enqueued).await?);
        }
        Some(landed)
    }

    async fn deliver_batch(&self, batch: &[Write], enqueued: bool) -> Option<Vec<Landed>> {
        let mut landed: Vec<Option<Landed>> = vec![None; batch.len()];
        let mut pauses = Pauses::new(&self.settings);
        // Patience is counted as pauses are: by the timer.
        let began = tokio::time::Instant::now();
        loop {
            let open: Vec<usize> = (0..batch.len()).filter(|i| landed[*i].is_none()).collect();
            if open.is_empty() {
                break;
            }
            // A store that failed through terms shorter than the patience is not waited for anew in each.
            let impatient = self.is_owing() || self.failing_for().max(began.elapsed()) > self.settings.patience;
            if impatient && self.leave(open.iter().map(|i| &batch[*i]), enqueued).await {
                open.iter().for_each(|i| landed[*i] = Some(Landed::Pending));
                break;
            }
            let writes: Vec<Write> = open.iter().map(|i| batch[*i].clone()).collect();
            let answers = self.apply(&writes).await?;
            if answers.iter().any(Applied::is_durable) {
                failpoint::reached(CrashPoint::Stored);
            }
            for (i, answer) in open.iter().zip(answers) {
                landed[*i] = match answer {
                    Applied::Written | Applied::Skipped => Some(Landed::Durable),
                    Applied::Failed(fault) if fault.class.is_transient() => None,
                    Applied::Failed(fault) => Some(Landed::Refused(fault)),
                };
            }
            if landed.iter().any(Option::is_none) {
                tokio::time::sleep(pauses.next()).await;
            }
        }
        Some(landed.into_iter().flatten().collect())
    }

    /// One attempt; `None` where the term ended before it, or while it was under way.
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
            self.look_again(writes).await;
            return None;
        }
        Some(answers)
    }

    /// Applies the writes; where that panics, each for itself.
    async fn apply_caught(&self, writes: &[Write]) -> Vec<Applied> {
        match caught("apply", self.store.apply(writes)).await {
            Ok(answers) => answers,
            Err(fault) if writes.len() <= 1 => vec![Applied::Failed(fault); writes.len()],
            Err(_) => {
                let mut answers = Vec::with_capacity(writes.len());
                for write in writes.chunks(1) {
                    let answer = caught("apply", self.store.apply(write)).await;
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
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).owing
    }

    /// Remembers whether the store is failing, and says so when that changes.
    fn observe(&self, fault: Option<&Fault>) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.store.target();
        match (&condition.failing, fault) {
            (None, Some(fault)) => {
                warn!(%target, %fault, "the store fails: trying again; the others go on");
            }
            (Some((since, _)), None) => {
                info!(%target, %since, "the store answers again");
            }
            _ => {}
        }
        condition.failing_since = fault.map(|_| condition.failing_since.unwrap_or_else(tokio::time::Instant::now));
        condition.failing =
            fault.map(|fault| (condition.failing.as_ref().map_or(clock::now(), |(since, _)| *since), fault.clone()));
    }

    /// Sees to it that none of the writes has undone what another process did to its chunk meanwhile.
    async fn look_again(&self, writes: &[Write]) {
        let mut pauses = Pauses::new(&self.settings);
        for _ in 0..LOOKS {
            let Err(fault) = self.owe_overtaken(writes).await else { return };
            let target = self.store.target();
            warn!(%target, %fault, "the system of record fails: chunks written after the term cannot be compared yet");
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Records as debts the chunks that have moved on since. A store that deletes forgets the version with the chunk: where
    /// another process deleted it just before the write came, the write has brought it back.
    async fn owe_overtaken(&self, writes: &[Write]) -> Result<(), Fault> {
        let alive: Vec<&Write> = writes.iter().filter(|write| write.state.is_some()).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let rows = self.records.rows_of(&alive.iter().map(|write| write.id).collect::<Vec<_>>()).await?;
        let overtaken = alive.iter().zip(rows).filter_map(|(write, row)| {
            let version = row.map(|row| row.version).filter(|version| *version > write.version)?;
            Some(Debt { id: write.id, target: self.store.target(), version })
        });
        let overtaken: Vec<Debt> = overtaken.collect();
        if overtaken.is_empty() { Ok(()) } else { self.records.owe(&overtaken).await }
    }

    /// Leaves the writes to the outbox, which has them already where they are `enqueued`; whether that is durable.
    async fn leave(&self, writes: impl Iterator<Item = &Write>, enqueued: bool) -> bool {
        let target = self.store.target();
        let debts: Vec<Debt> = writes.map(|write| Debt { id: write.id, target, version: write.version }).collect();
        let recorded = if enqueued { Ok(()) } else { self.records.owe(&debts).await };
        match recorded {
            Ok(()) => {
                failpoint::reached(CrashPoint::Owed);
                self.condition.lock().unwrap_or_else(PoisonError::into_inner).owing = true;
                true
            }
            Err(fault) => {
                warn!(%target, %fault, "what the store misses could not be recorded as its debt: still trying to write it");
                false
            }
        }
    }

    /// Pays what the store owes, the newest state of each chunk, as long as it takes it.
    async fn pay(&mut self) {
        while self.term.holds() {
            match self.pay_some().await {
                Ok(Drained::Empty) => {
                    self.condition.lock().unwrap_or_else(PoisonError::into_inner).owing = false;
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

    /// Pays some debts. Those that the store refuses are passed over until they change, so that they hold up no others; so
    /// are those that are claimed, whose writes are sent directly.
    async fn pay_some(&mut self) -> Result<Drained, Fault> {
        let batch = self.settings.store_batch.max(1);
        let limit = batch + self.refused.len() + self.claims.len();
        let debts = self.records.debts(self.store.target(), limit).await?;
        if debts.len() < limit {
            // All there are: what is refused and no longer among them has been written or struck off otherwise.
            self.refused.retain(|id, _| debts.iter().any(|debt| debt.id == *id));
            self.show_refused();
        }
        let ids: Vec<_> = debts.iter().map(|debt| debt.id).collect();
        let rows = if ids.is_empty() { Vec::new() } else { self.records.rows_of(&ids).await? };
        let write = |(debt, row): (Debt, Option<crate::ports::Row>)| {
            let (version, state) = row.map_or((debt.version, None), |row| (row.version, row.state));
            (debt, Write { id: debt.id, version, state, vectors_since: version })
        };
        let due = debts.into_iter().zip(rows).map(write);
        let due = due.filter(|(debt, write)| self.refused.get(&debt.id) != Some(&write.version));
        let (claimed, due): (Vec<_>, Vec<_>) = due.partition(|(debt, _)| self.claims.contains(debt.id));
        let (debts, writes): (Vec<Debt>, Vec<Write>) = due.into_iter().take(batch).unzip();
        if debts.is_empty() {
            return Ok(if claimed.is_empty() { Drained::Empty } else { Drained::Claimed });
        }
        // The term is over: nothing is known of what is left.
        let Some(answers) = self.apply(&writes).await else { return Ok(Drained::Claimed) };
        let (mut settled, mut failed) = (Vec::new(), None);
        for ((debt, write), answer) in debts.iter().zip(&writes).zip(answers) {
            match answer {
                Applied::Written | Applied::Skipped => settled.push(*debt),
                Applied::Failed(fault) if fault.class.is_transient() => failed = Some(fault),
                Applied::Failed(fault) => self.refuse(write, &fault),
            }
        }
        failpoint::reached(CrashPoint::Paid);
        self.records.paid(&settled).await?;
        self.refused.retain(|id, _| settled.iter().all(|debt| debt.id != *id));
        self.show_refused();
        failed.map_or(Ok(Drained::Sent), Err)
    }

    fn refuse(&mut self, write: &Write, fault: &Fault) {
        let (target, chunk) = (self.store.target(), write.id);
        warn!(%target, %chunk, %fault, "the store refuses what it owes: it stays owed until the chunk changes");
        self.refused.insert(write.id, write.version);
        self.show_refused();
    }

    fn show_refused(&self) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        condition.refused = self.refused.len() as u64;
    }
}

/// The system that the chunk of a write comes from; of a deleted one that is no longer known.
fn origin(write: &Write) -> &'static str {
    write.state.as_ref().map_or("hybrid", |state| state.chunk.system_origin.as_str())
}
