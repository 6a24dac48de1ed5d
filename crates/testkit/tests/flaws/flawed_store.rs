//! Flawed stores: a correct store in memory, and a flaw in front of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Applied, Counts, DocumentPage, Fault, FaultClass, Projection, StoredDocument, Write};
use chunk_sync_model::document::Document;
use chunk_sync_model::{Limits, State, SyncVersion, Target};
use chunk_sync_testkit::Fixture;
use chunk_sync_testkit::memory::MemoryStore;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::{FLAW, Flaw};

/// Longest time that a call waits for another one to meet it.
const MET_WITHIN: Duration = Duration::from_secs(2);

struct FlawedStore {
    flaw: Flaw,
    good: MemoryStore,
    /// The last write of each chunk, including deletes.
    last: Mutex<BTreeMap<Uuid, Write>>,
    /// The greatest count so far.
    most: Mutex<BTreeMap<&'static str, u64>>,
    /// Whether a call runs, and the signal that another call started meanwhile.
    busy: AtomicBool,
    met: Notify,
}

impl FlawedStore {
    fn fresh(target: Target) -> Arc<Self> {
        let good = MemoryStore::new(target, Limits::default());
        Arc::new(Self {
            flaw: FLAW.get(),
            good,
            last: Mutex::default(),
            most: Mutex::default(),
            busy: false.into(),
            met: Notify::new(),
        })
    }

    /// Writes whatever the held version.
    async fn force(&self, write: &Write) -> Applied {
        let delete = Write { version: SyncVersion::MAX, state: None, ..write.clone() };
        self.good.apply(&[delete]).await;
        self.good.apply(std::slice::from_ref(write)).await.remove(0)
    }

    async fn apply_one(&self, number: usize, write: &Write) -> Applied {
        let held = self.good.fetch_documents(&[write.id]).await.unwrap().remove(0).map(|seen| seen.version);
        let last = self.last.lock().unwrap().insert(write.id, write.clone());
        let mut write = write.clone();
        match self.flaw {
            Flaw::KeepsTheFirst if held.is_some() => return Applied::Skipped,
            Flaw::LastWins => return self.force(&write).await,
            Flaw::EqualWins if held == Some(write.version) => return self.force(&write).await,
            Flaw::RefusesRepetition if held == Some(write.version) => return failed(),
            Flaw::LosesTheThird if number == 2 => return Applied::Written,
            Flaw::TakesAHundred if number >= 100 => return Applied::Written,
            Flaw::DeletesNothing if write.state.is_none() => return Applied::Written,
            Flaw::RefusesToDeleteNothing if write.state.is_none() && held.is_none() => return failed(),
            Flaw::KeepsVectors => write.vectors_since = SyncVersion::default(),
            Flaw::KeepsVectorsThatAreGone if says_no_vectors(&write) => write.vectors_since = SyncVersion::default(),
            Flaw::TakesTheSharedAlong if write.state.is_none() => self.take_along(last.as_ref()).await,
            _ => {}
        }
        write.state = write.state.map(|state| self.tampered(&state, last.as_ref()));
        self.good.apply(&[write]).await.remove(0)
    }

    fn tampered(&self, state: &State, last: Option<&Write>) -> Arc<State> {
        let mut state = State::clone(state);
        let summary = &mut state.chunk.summary;
        match self.flaw {
            Flaw::EmptySummaryIsNone => *summary = summary.take().filter(|summary| !summary.is_empty()),
            Flaw::KeepsTheOldSummary if summary.is_none() => {
                *summary = last.and_then(|last| last.state.as_ref()?.chunk.summary.clone());
            }
            Flaw::OneNameForAll => {
                let others: Vec<_> =
                    self.states().into_iter().filter(|other| other.chunk.id != state.chunk.id).collect();
                let said = || others.iter().flat_map(|other| &other.chunk.graph.entities);
                for entity in &mut state.chunk.graph.entities {
                    let same = said().find(|other| other.id == entity.id);
                    entity.name = same.map_or(entity.name.clone(), |same| same.name.clone());
                }
            }
            _ => {}
        }
        Arc::new(state)
    }

    fn states(&self) -> Vec<Arc<State>> {
        self.last.lock().unwrap().values().filter_map(|write| write.state.clone()).collect()
    }

    /// Removes the entities of the deleted chunk from all other chunks.
    async fn take_along(&self, gone: Option<&Write>) {
        let Some(gone) = gone.and_then(|gone| gone.state.as_ref()) else { return };
        let named = |id: &String| gone.chunk.graph.entities.iter().any(|entity| entity.id == *id);
        let others: Vec<Write> = self.last.lock().unwrap().values().cloned().collect();
        for mut other in others {
            let Some(state) = &other.state else { continue };
            let mut state = State::clone(state);
            let graph = &mut state.chunk.graph;
            graph.entities.retain(|entity| !named(&entity.id));
            graph.relationships.retain(|r| !named(&r.source_entity_id) && !named(&r.target_entity_id));
            other.state = Some(Arc::new(state));
            self.force(&other).await;
        }
    }
}

fn failed() -> Applied {
    Applied::Failed(Fault::new(FaultClass::Busy, "flawed", "not now"))
}

fn says_no_vectors(write: &Write) -> bool {
    write.state.as_ref().is_some_and(|state| state.chunk.embeddings.is_empty())
}

#[async_trait]
impl Projection for FlawedStore {
    fn target(&self) -> Target {
        self.good.target()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        if self.flaw == Flaw::PrepareEmpties {
            for seen in self.good.scan(None, usize::MAX).await?.documents {
                let (id, version) = (seen.id, SyncVersion::MAX);
                self.good.apply(&[Write { id, version, state: None, vectors_since: version }]).await;
            }
        }
        Ok(())
    }

    async fn apply(&self, writes: &[Write]) -> Vec<Applied> {
        if self.flaw == Flaw::LosesWhenMet {
            if self.busy.swap(true, Ordering::SeqCst) {
                self.met.notify_one();
                return writes.iter().map(|_| Applied::Written).collect();
            }
            // The call that would meet this one may be late on a busy machine; the last call has nothing to meet.
            let _ = timeout(MET_WITHIN, self.met.notified()).await;
        }
        if self.flaw == Flaw::FailsTogether {
            let trial = MemoryStore::new(self.target(), Limits::default()).apply(writes).await;
            if trial.iter().any(|answer| !answer.is_durable()) {
                return trial.iter().map(|_| failed()).collect();
            }
        }
        let mut answers = Vec::new();
        for (number, write) in writes.iter().enumerate() {
            answers.push(self.apply_one(number, write).await);
        }
        if self.flaw == Flaw::FirstAnswerForAll {
            answers = answers.iter().map(|_| answers[0].clone()).collect();
        }
        if self.flaw == Flaw::KeepsOrphans {
            self.counts().await.unwrap();
        }
        self.busy.store(false, Ordering::SeqCst);
        answers
    }

    async fn fetch_documents(&self, ids: &[Uuid]) -> Result<Vec<Option<StoredDocument>>, Fault> {
        let mut ids = ids.to_vec();
        if self.flaw == Flaw::AnswersSorted {
            ids.sort_unstable();
        }
        self.good.fetch_documents(&ids).await
    }

    async fn scan(&self, after: Option<Uuid>, limit: usize) -> Result<DocumentPage, Fault> {
        let after = match self.flaw {
            Flaw::PageBeginsAtAfter => after.and_then(|id| id.as_u128().checked_sub(1)).map(Uuid::from_u128),
            Flaw::NilIsBelowTheFirst => Some(after.unwrap_or_default()),
            _ => after,
        };
        self.good.scan(after, limit).await
    }

    fn expect(&self, state: &State) -> Document {
        self.good.expect(state)
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let mut counts = self.good.counts().await?;
        match self.flaw {
            Flaw::CountsAllEver => counts.chunks = self.last.lock().unwrap().len() as u64,
            Flaw::CountsLinksForEntities => {
                counts.others.insert("entities", counts.others["entity_links"]);
            }
            Flaw::KeepsOrphans => {
                let mut most = self.most.lock().unwrap();
                for (name, count) in &mut counts.others {
                    let most = most.entry(name).or_default();
                    *most = (*most).max(*count);
                    *count = *most;
                }
            }
            _ => {}
        }
        Ok(counts)
    }

    async fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

macro_rules! fixture {
    ($name:ident, $target:ident) => {
        pub(super) struct $name(Arc<FlawedStore>);

        #[async_trait]
        impl Fixture for $name {
            type Port = dyn Projection;

            async fn fresh() -> Self {
                Self(FlawedStore::fresh(Target::$target))
            }

            fn port(&self) -> Arc<dyn Projection> {
                self.0.clone()
            }

            async fn reopen(&mut self) {
                if self.0.flaw == Flaw::ForgetsOnReopen {
                    self.0 = FlawedStore::fresh(Target::$target);
                }
            }
        }
    };
}

fixture!(Rows, Postgres);
fixture!(Vectors, Qdrant);
fixture!(Graph, Neo4j);
