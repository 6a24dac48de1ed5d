//! A bus that breaks a promise.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Bus, DeadLetter, Delivery, Depth, EntryId, Fault, Handover, Letter};
use chunk_sync_model::Event;

use super::Every;

pub(super) enum Flaw {
    FinishesOnRead,
    LosesPublished(Every),
    Backwards,
}

pub(super) struct Flawed(pub(super) Arc<dyn Bus>, pub(super) Flaw);

#[async_trait]
impl Bus for Flawed {
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
            Flaw::LosesPublished(_) => {}
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.0.acknowledge(ids).await
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.0.bury(letters).await
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        self.0.dead(after, limit).await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        self.0.drop_dead(id).await
    }

    async fn incarnation(&self) -> Result<String, Fault> {
        self.0.incarnation().await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.0.depth().await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        self.0.trim().await
    }
}
