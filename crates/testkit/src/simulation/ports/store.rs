//! A store through injected faults, with writes that arrive late.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, FaultClass, Projection, StoredDocument, Write};
use chunk_sync_model::document::Document;
use chunk_sync_model::{State, Target};
use tokio::time::sleep;
use uuid::Uuid;

use crate::simulation::faults::Fate;
use crate::simulation::oracle::Oracle;
use crate::simulation::way::Way;

pub(crate) struct FaultyStore {
    pub(crate) store: Arc<dyn Projection>,
    pub(crate) way: Way,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) poison: Option<Poisoned>,
}

/// A chunk that a store can never hold.
#[derive(Clone, Copy)]
pub(crate) struct Poisoned {
    pub(crate) id: Uuid,
    pub(crate) kills: bool,
}

impl Poisoned {
    /// Panics, or returns the refusal.
    pub(super) fn refuse(self) -> Fault {
        if self.kills {
            // No panic message: this panic is intended.
            std::panic::resume_unwind(Box::new("poison"));
        }
        Fault::new(FaultClass::Rejected, "simulation", "no store can hold this chunk")
    }
}

impl FaultyStore {
    /// Applies writes whose call timed out while they were in progress. A store that forgets the version with the chunk
    /// takes any write.
    fn come_late(&self, writes: Vec<Write>, delay: Duration) {
        let (store, oracle, faults) = (Arc::clone(&self.store), Arc::clone(&self.oracle), Arc::clone(&self.way.faults));
        faults.fault_state().on_the_way += 1;
        tokio::spawn(async move {
            sleep(delay).await;
            apply_watched(&*store, &oracle, &writes).await;
            faults.fault_state().on_the_way -= 1;
        });
    }

    /// Draws whether a call without an answer is applied late, and by how much.
    fn lateness(&self) -> Option<Duration> {
        let mut fault_state = self.way.faults.fault_state();
        let late = fault_state.rng.one_in(3);
        fault_state.tally.late += u64::from(late);
        let longest = [20_000, 300_000][fault_state.rng.below(2)];
        late.then(|| Duration::from_millis(fault_state.rng.below(longest) as u64))
    }

    /// Draws which writes of a batch fail on their own.
    fn failing(&self, writes: &[Write]) -> Vec<bool> {
        let mut fault_state = self.way.faults.fault_state();
        let some = !fault_state.is_calm() && fault_state.rng.one_in(20);
        writes.iter().map(|_| some && fault_state.rng.one_in(3)).collect()
    }
}

/// Applies the writes and reports them to the oracle. Stores in memory answer at once, so no other write intervenes.
pub(super) async fn apply_watched(store: &dyn Projection, oracle: &Oracle, writes: &[Write]) -> Vec<Applied> {
    let ids: Vec<Uuid> = writes.iter().map(|write| write.id).collect();
    let before = store.fetch_documents(&ids).await.unwrap_or_default();
    let answers = store.apply(writes).await;
    let after = store.fetch_documents(&ids).await.unwrap_or_default();
    for (write, (before, after)) in writes.iter().zip(before.iter().zip(&after)) {
        oracle.wrote(store.target(), write, (before.as_ref(), after.as_ref()));
    }
    answers
}

pub(super) fn failed() -> Fault {
    Fault::new(FaultClass::Busy, "simulation", "the write failed")
}

#[async_trait]
impl Projection for FaultyStore {
    fn target(&self) -> Target {
        self.store.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.store.prepare()).await
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        let fate = self.way.set_out().await;
        if let Fate::Refused(fault) = fate {
            return vec![Applied::Failed(fault); writes.len()];
        }
        if matches!(fate, Fate::Lost) {
            let poison = self.poison.map(|poison| poison.id);
            let sound: Vec<Write> =
                writes.iter().filter(|w| w.state.is_none() || Some(w.id) != poison).cloned().collect();
            match self.lateness() {
                Some(delay) => self.come_late(sound, delay),
                None => drop(apply_watched(&*self.store, &self.oracle, &sound).await),
            }
            self.way.come_back().await;
            return vec![Applied::Failed(self.way.lost()); writes.len()];
        }
        let poison = self.poison.filter(|poison| writes.iter().any(|w| w.id == poison.id && w.state.is_some()));
        if let Some(poison) = poison {
            // The server refuses the request as a whole.
            let refusal = Fault { divisible: writes.len() > 1, ..poison.refuse() };
            self.way.come_back().await;
            return vec![Applied::Failed(refusal); writes.len()];
        }
        let failing = self.failing(writes);
        let sound: Vec<Write> =
            writes.iter().zip(&failing).filter(|(_, fails)| !**fails).map(|(write, _)| write.clone()).collect();
        let mut answers = apply_watched(&*self.store, &self.oracle, &sound).await.into_iter();
        let answers = failing.into_iter().map(|fails| match fails {
            true => Applied::Failed(failed()),
            false => answers.next().unwrap(),
        });
        let answers = answers.collect();
        self.way.come_back().await;
        answers
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        self.way.call(self.store.fetch_documents(ids)).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        self.way.call(self.store.scan(after, limit)).await
    }

    fn expect(&self, state: &State) -> Document {
        self.store.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        self.way.call(self.store.counts()).await
    }

    async fn check(&self) -> Result<(), Fault> {
        self.way.call(self.store.check()).await
    }
}
