//! Events that were set aside from the log, without their entries: where the bus still has one, it is finished when it
//! comes again, and not begun anew.
//!
//! Kept in memory only. A crash before the entry came has the event carried, refused and set aside once more: a second
//! letter, and nothing worse.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use chunk_sync_model::Event;
use uuid::Uuid;

use crate::pipeline::envelope::Operation;

/// Which events. One that is published again by a person counts one retry more, and is another.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(Mutex<HashSet<(Uuid, u32)>>);

impl GivenUp {
    /// The event has its letter; its entry may still come.
    pub(crate) fn note(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name(event));
    }

    /// Whether this is the entry of an event that has its letter: it was handed out before, and comes once.
    pub(crate) fn awaited(&self, operation: &Operation) -> bool {
        operation.repeated && self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name(&operation.event))
    }
}

fn name(event: &Event) -> (Uuid, u32) {
    (event.event_id, event.retry_count)
}
