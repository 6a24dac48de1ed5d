//! The bus through injected faults.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FinishedBy, Handover, Letter,
    chunk_of,
};
use chunk_sync_model::{Event, Time};
use uuid::Uuid;

use crate::memory::MemoryBus;
use crate::simulation::faults::Fate;
use crate::simulation::oracle::Oracle;
use crate::simulation::trace::trace;
use crate::simulation::way::Way;

pub(crate) struct FaultyBus {
    pub(crate) bus: Arc<dyn Bus>,
    /// The same bus, to hand back entries that did not arrive.
    pub(crate) memory: MemoryBus,
    pub(crate) way: Way,
    pub(crate) oracle: Arc<Oracle>,
    /// Some published entries become readable late.
    pub(crate) commits_late: bool,
}

impl FaultyBus {
    /// Draws whether the next publication commits late, and by how much.
    fn lateness(&self) -> Option<Duration> {
        let mut fault_state = self.way.faults.fault_state();
        (self.commits_late && fault_state.rng.one_in(4))
            .then(|| Duration::from_millis(fault_state.rng.below(3_000) as u64))
    }
}

#[async_trait]
impl Bus for FaultyBus {
    fn finished_by(&self) -> FinishedBy {
        self.bus.finished_by()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.way.call(self.bus.prepare()).await
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        let publish = async {
            let ids = match self.lateness() {
                Some(delay) => self.memory.publish_late(events, delay).await?,
                None => self.bus.publish(events).await?,
            };
            self.oracle.published(&ids, events);
            Ok(ids)
        };
        self.way.call(publish).await
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.way.call(self.bus.begin(handover)).await
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let fate = self.way.set_out().await;
        if let Fate::Refused(fault) = fate {
            return Err(fault);
        }
        let deliveries = self.way.unless_dead(self.bus.read(max, wait)).await?;
        for delivery in &deliveries {
            if let Some(chunk) = chunk_of(&delivery.fields) {
                trace(chunk, || format!("read: entry {}, {}", delivery.id, delivery.attempt));
            }
        }
        let ids: Vec<EntryId> = deliveries.iter().map(|delivery| delivery.id).collect();
        if matches!(fate, Fate::Lost) {
            self.memory.hand_back(&ids);
            return Err(self.way.lost());
        }
        {
            // As after a claim of the entry for lost: it is delivered now, and once more.
            let mut fault_state = self.way.faults.fault_state();
            fault_state.tally.deliveries += deliveries.len() as u64;
            fault_state.tally.redelivered += deliveries.iter().filter(|delivery| delivery.attempt > 1).count() as u64;
            let calm = fault_state.is_calm();
            let again: Vec<EntryId> = ids.into_iter().filter(|_| !calm && fault_state.rng.one_in(50)).collect();
            if !again.is_empty() {
                self.memory.hand_back(&again);
            }
        }
        self.way.come_back().await;
        Ok(deliveries)
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.way.call(self.bus.acknowledge(ids)).await
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        self.way.call(self.bus.recount(id, attempt)).await
    }

    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault> {
        self.way.call(self.bus.erase(chunk, mode)).await
    }

    async fn now(&self) -> Result<Time, Fault> {
        self.way.call(self.bus.now()).await
    }

    async fn epoch(&self) -> Result<String, Fault> {
        self.way.call(self.bus.epoch()).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.way.call(self.bus.depth()).await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        self.way.call(self.bus.trim()).await
    }
}

#[async_trait]
impl DeadLetters for FaultyBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.way.call(self.bus.dead_letter(letters)).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        self.way.call(self.bus.dead(after, limit)).await
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        self.way.call(self.bus.dead_bytes()).await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        self.way.call(self.bus.drop_dead(id)).await
    }
}
