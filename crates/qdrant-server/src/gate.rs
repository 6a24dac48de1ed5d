//! Holds one update between its arrival and its effect, so that tests can apply other updates first.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// The gate that every update passes.
#[derive(Default)]
pub(crate) struct Gate {
    waiting: Mutex<Option<Waiting>>,
}

/// The server's side of the update to hold.
struct Waiting {
    arrived: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// The handle of a held update. Dropping it releases the update.
pub(crate) struct Held {
    arrived: Option<oneshot::Receiver<()>>,
    _release: oneshot::Sender<()>,
}

impl Gate {
    /// Holds the next update that arrives, and only that one.
    pub(crate) fn hold_next(&self) -> Held {
        let (arrives, arrived) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.lock() = Some(Waiting { arrived: arrives, released });
        Held { arrived: Some(arrived), _release: release }
    }

    /// Waits until the update may take effect.
    pub(crate) async fn pass(&self) {
        let waiting = self.lock().take();
        if let Some(waiting) = waiting {
            // The test may not wait for the arrival. A dropped sender counts as a release.
            let _ = waiting.arrived.send(());
            let _ = waiting.released.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Resolves when the update has arrived and before it takes effect. Call it once.
    pub(crate) fn arrived(&mut self) -> oneshot::Receiver<()> {
        // A second call gets a closed channel.
        self.arrived.take().unwrap_or_else(|| oneshot::channel().1)
    }
}
