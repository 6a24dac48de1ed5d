//! A bus that breaks a promise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::Clock;
use chunk_sync_engine::ports::{
    Bus, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FinishedBy, Handover, Letter,
};
use chunk_sync_model::{Event, Limits, Time, Writer};

use uuid::Uuid;

use super::Every;

pub(super) enum Flaw {
    FinishesOnRead,
    LosesPublished(Every),
    Backwards,
    /// Hands out signals as if the clock showed their commit time.
    BelievesCommitTimes,
    /// Reads above the greatest number it has handed out.
    SkipsLate(Arc<AtomicU64>),
    /// Shows the time of the process in place of its own.
    StatesTheTimeOf(OwnClock),
}

/// The clock of the process that started last.
pub(super) type OwnClock = Arc<Mutex<Option<Clock>>>;

pub(super) struct Flawed(pub(super) Arc<dyn Bus>, pub(super) Flaw);

#[async_trait]
impl Bus for Flawed {
    fn finished_by(&self) -> FinishedBy {
        self.0.finished_by()
    }

    async fn prepare(&self) -> Result<(), Fault> {
        self.0.prepare().await
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        match &self.1 {
            Flaw::LosesPublished(every) if every.now() => Ok(Vec::new()),
            _ => self.0.publish(events).await,
        }
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.0.begin(handover).await
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let mut deliveries = self.0.read(max, wait).await?;
        match &self.1 {
            Flaw::FinishesOnRead => {
                self.0.acknowledge(&deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>()).await?;
            }
            Flaw::Backwards => deliveries.reverse(),
            Flaw::SkipsLate(greatest) => deliveries.retain(|delivery| {
                let number = delivery.id.sequence;
                greatest.fetch_max(number, Ordering::Relaxed) < number || delivery.attempt > 1
            }),
            Flaw::BelievesCommitTimes => deliveries.iter_mut().for_each(believe),
            Flaw::LosesPublished(_) | Flaw::StatesTheTimeOf(_) => {}
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.0.acknowledge(ids).await
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        self.0.recount(id, attempt).await
    }

    async fn erase(&self, chunk: Uuid, mode: Erasing) -> Result<BusErasure, Fault> {
        self.0.erase(chunk, mode).await
    }

    async fn now(&self) -> Result<Time, Fault> {
        let now = self.0.now().await?;
        match &self.1 {
            Flaw::StatesTheTimeOf(clock) => Ok(clock.lock().unwrap().as_ref().map_or(now, Clock::now)),
            _ => Ok(now),
        }
    }

    async fn epoch(&self) -> Result<String, Fault> {
        self.0.epoch().await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.0.depth().await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        self.0.trim().await
    }
}

#[async_trait]
impl DeadLetters for Flawed {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.0.dead_letter(letters).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        self.0.dead(after, limit).await
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        self.0.dead_bytes().await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        self.0.drop_dead(id).await
    }
}

fn believe(delivery: &mut Delivery) {
    let Ok(event) = Event::from_fields(&delivery.fields, &Limits::default()) else { return };
    if event.writer == Writer::Postgres {
        (delivery.added_at, delivery.read_at) = (event.timestamp, event.timestamp);
    }
}
