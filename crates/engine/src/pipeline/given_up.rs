//! Events that were dead-lettered from the log, without their entries: if the bus still has such an entry and hands it
//! out again, the entry is finished and the event is not carried again.
//!
//! Kept in memory only. After a crash before the entry arrived, the event is carried, refused and dead-lettered once
//! more: the only effect is a second letter.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use chunk_sync_model::Event;
use uuid::Uuid;

use crate::pipeline::envelope::Operation;

/// The events, by id and retry count. An event that the operator publishes again has a higher retry count, and is
/// another one.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(Mutex<HashSet<(Uuid, u32)>>);

impl GivenUp {
    /// Records that the event has its letter; its entry may still arrive.
    pub(crate) fn note(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name(event));
    }

    /// Whether this is the entry of an event that has its letter. Such an entry was handed out before, and is expected
    /// once.
    pub(crate) fn awaited(&self, operation: &Operation) -> bool {
        operation.repeated && self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name(&operation.event))
    }
}

fn name(event: &Event) -> (Uuid, u32) {
    (event.event_id, event.retry_count)
}
