//! A term of the active process: until when it may merge, and its fence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::ports::Fence;

/// A term in which this process holds the lease. Clones are the same term.
#[derive(Clone, Debug)]
pub(crate) struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: Uuid,
    /// When the term ends unless it is renewed; `None` once it has ended, for good.
    until: Mutex<Option<Instant>>,
    doubted: Notify,
}

impl Term {
    pub(super) fn new(token: Uuid, until: Instant) -> Self {
        Self(Arc::new(Inner { token, until: Mutex::new(Some(until)), doubted: Notify::new() }))
    }

    /// The fence of every merge of this term.
    pub(crate) fn fence(&self) -> Fence {
        Fence { lease: Some(self.0.token), stores: None }
    }

    /// Whether this process may still start a merge and send to a store. Once it returns false it never returns true
    /// again: the work that was dropped because of that belongs to the next term.
    pub(crate) fn holds(&self) -> bool {
        let mut until = self.until();
        let holds = until.is_some_and(|until| Instant::now() < until);
        if !holds && until.take().is_some() {
            self.0.doubted.notify_one();
        }
        holds
    }

    /// Has the lease renewed at once: a call was refused, perhaps because another process holds the lease by now.
    pub(crate) fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    /// Waits until [`Self::doubt`] was called.
    pub(super) async fn doubted(&self) {
        self.0.doubted.notified().await;
    }

    pub(super) fn renewed(&self, until: Instant) {
        if let Some(end) = &mut *self.until() {
            *end = until.max(*end);
        }
    }

    pub(super) fn end(&self) {
        *self.until() = None;
    }

    pub(super) fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
