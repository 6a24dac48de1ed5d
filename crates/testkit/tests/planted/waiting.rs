//! A table of waiting events that breaks one promise.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    EntryId, Fault, Fence, NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents,
};
use uuid::Uuid;

use super::Every;

/// What it does wrong.
pub(super) enum Flaw {
    /// Some events are finished on the bus and not in the table, as after a crash between two transactions.
    LosesAdded(Every),
    /// A process that starts does not learn which chunks have events here, so later events overtake them.
    ForgetsChunks,
    /// The events of a chunk come in the opposite order.
    Backwards,
}

/// The table with a flaw.
pub(super) struct Flawed {
    pub(super) waiting: Arc<dyn WaitingEvents>,
    pub(super) flaw: Flaw,
}

#[async_trait]
impl WaitingEvents for Flawed {
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Fault> {
        let kept = match &self.flaw {
            Flaw::LosesAdded(every) if every.now() => &events[..0],
            _ => events,
        };
        self.waiting.add_waiting(kept, fence, finished).await
    }

    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault> {
        let mut events = self.waiting.waiting_of(chunks, limit).await?;
        if matches!(self.flaw, Flaw::Backwards) {
            events.reverse();
        }
        Ok(events)
    }

    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault> {
        match self.flaw {
            Flaw::ForgetsChunks => Ok(Vec::new()),
            _ => self.waiting.waiting_chunks().await,
        }
    }

    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault> {
        self.waiting.waiting_counts().await
    }

    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault> {
        self.waiting.explain_waiting(numbers, reason, error).await
    }

    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault> {
        self.waiting.remove_waiting(numbers).await
    }
}
