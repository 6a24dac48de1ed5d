//! The waiting events as a process sees them through injected faults.

use std::sync::Arc;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    EntryId, Fault, Fence, NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents,
};
use uuid::Uuid;

use super::trace::trace;
use super::way::Way;

pub(super) struct FaultyWaiting {
    pub(super) waiting: Arc<dyn WaitingEvents>,
    pub(super) way: Way,
}

#[async_trait]
impl WaitingEvents for FaultyWaiting {
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Fault> {
        for event in events {
            trace(event.chunk, || format!("waits: {} because of {:?}, {}", event.name, event.reason, event.error));
        }
        self.way.faults.fault_state().tally.waited += events.len() as u64;
        self.way.call(self.waiting.add_waiting(events, fence, finished)).await
    }

    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault> {
        self.way.call(self.waiting.waiting_of(chunks, limit)).await
    }

    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault> {
        self.way.call(self.waiting.waiting_chunks()).await
    }

    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault> {
        self.way.call(self.waiting.waiting_counts()).await
    }

    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault> {
        self.way.call(self.waiting.explain_waiting(numbers, reason, error)).await
    }

    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault> {
        self.way.call(self.waiting.remove_waiting(numbers)).await
    }
}
