//! Calls to one store within one term of the lease: nothing is sent after the term.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chunk_sync_model::Target;
use tracing::warn;

use super::condition::SharedCondition;
use super::divided::apply_divided;
use super::late_writes;
use crate::pipeline::held_versions::HeldVersions;
use crate::ports::{Applied, Fault, FaultClass, PendingWrite, Policy, Projection, Records, Watched, Write};
use crate::runtime::catch_panic::catch_panic;
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::metrics;
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;
use crate::runtime::term::Term;
use crate::runtime::watch;

/// How long a store may take to answer a small request, to count as one that answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// A store with its outbox, for one term.
pub(super) struct StoreAccess {
    pub(super) store: Arc<dyn Projection>,
    /// Holds the outbox.
    pub(super) records: Arc<dyn Records>,
    pub(super) settings: WorkerSettings,
    pub(super) term: Term,
    pub(super) condition: SharedCondition,
    /// Whether the store has been prepared: it may be down when the service starts.
    prepared: AtomicBool,
    held: HeldVersions,
}

impl StoreAccess {
    pub(super) fn new(
        store: Arc<dyn Projection>,
        records: Arc<dyn Records>,
        settings: WorkerSettings,
        term: Term,
        condition: SharedCondition,
        held: HeldVersions,
    ) -> Self {
        Self { store, records, settings, term, condition, prepared: AtomicBool::new(false), held }
    }

    pub(super) fn target(&self) -> Target {
        self.store.target()
    }

    /// One attempt; `None` if the term ended before it or during it. `apart` states that the writes are sent apart: if
    /// they take too long, that is no failure of the store.
    pub(super) async fn apply(&self, writes: &[Write], apart: bool) -> Option<Vec<Applied>> {
        if !self.term.holds() {
            return None;
        }
        let started = Instant::now();
        let answers = match self.prepare().await {
            Ok(()) => apply_divided(&*self.store, writes, || self.term.holds()).await,
            Err(fault) => vec![Applied::Failed(fault); writes.len()],
        };
        metrics::took(metrics::Operation::Apply(self.target()), started);
        let mut last = None;
        for (write, answer) in writes.iter().zip(&answers) {
            if let Applied::Failed(fault) = answer {
                metrics::failed(origin(write), self.target(), fault.class);
                last = Some(fault).filter(|fault| fault.policy() != Policy::DeadLetter).or(last);
            }
        }
        if !(apart && last.is_some_and(|fault| fault.class == FaultClass::Timeout)) {
            self.condition.observe(self.target(), last);
        }
        self.list_unanswered(writes, &answers).await;
        if !self.term.holds() {
            late_writes::check(&*self.records, &self.settings, self.target(), writes).await;
            return None;
        }
        let durable = writes.iter().zip(&answers).filter(|(_, answer)| answer.is_durable());
        self.held.note(durable.map(|(write, _)| (write.id, write.version)));
        Some(answers)
    }

    /// Lists the chunks of writes that the store has not answered: they may arrive later. Retries until the system of
    /// record answers or the term ends.
    async fn list_unanswered(&self, writes: &[Write], answers: &[Applied]) {
        let unanswered = |answer: &Applied| matches!(answer, Applied::Failed(fault) if fault.policy().retries());
        let unanswered = writes.iter().zip(answers).filter(|(_, answer)| unanswered(answer));
        let watched: Vec<Watched> =
            unanswered.map(|(write, _)| Watched { id: write.id, target: self.target() }).collect();
        let mut pauses = Pauses::new(&self.settings);
        while let Err(fault) = watch::list(&*self.records, &watched).await {
            warn!(target = %self.target(), %fault, "could not list chunks with unanswered writes; retrying");
            if !self.term.holds() {
                return;
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if !self.prepared.load(Ordering::Relaxed) {
            self.store.prepare().await?;
            self.prepared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the store answers a small request.
    pub(super) async fn answers(&self) -> bool {
        let check = catch_panic("check", self.store.check());
        matches!(tokio::time::timeout(ANSWERS_WITHIN, check).await, Ok(Ok(Ok(()))))
    }

    /// Puts the writes into the outbox, and the store counts as behind from now on; whether they are durable there.
    pub(super) async fn leave(&self, writes: impl Iterator<Item = &Write>) -> bool {
        let left = self.enqueue(writes).await;
        if left {
            self.condition.set_behind(true);
        }
        left
    }

    /// Puts the writes into the outbox; whether they are durable there.
    pub(super) async fn enqueue(&self, writes: impl Iterator<Item = &Write>) -> bool {
        let target = self.target();
        let pending_writes: Vec<PendingWrite> = writes.map(|write| pending_write(write, target)).collect();
        let recorded = if pending_writes.is_empty() { Ok(()) } else { self.records.enqueue(&pending_writes).await };
        match recorded {
            Ok(()) => {
                failpoint::reached(CrashPoint::Enqueued);
                true
            }
            Err(fault) => {
                warn!(%target, %fault, "could not put the store's missing writes into the outbox; retrying the store");
                false
            }
        }
    }
}

/// The `system_origin` of the chunk; of a deleted chunk it is no longer known and counted as `hybrid`.
fn origin(write: &Write) -> &'static str {
    write.state.as_ref().map_or("hybrid", |state| state.chunk.system_origin.as_str())
}

pub(super) fn pending_write(write: &Write, target: Target) -> PendingWrite {
    PendingWrite { id: write.id, target, version: write.version }
}
