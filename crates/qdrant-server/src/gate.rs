//! Holds one update between its arrival and its effect, so that tests can put others before it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// What every update passes.
#[derive(Default)]
pub(crate) struct Gate {
    waiting: Mutex<Option<Waiting>>,
}

/// The server's side of an update that is to be held.
struct Waiting {
    arrived: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// An update that is held, or will be. Dropped, it releases it.
pub(crate) struct Held {
    arrived: Option<oneshot::Receiver<()>>,
    _release: oneshot::Sender<()>,
}

impl Gate {
    /// Holds the next update that arrives, and none after it.
    pub(crate) fn hold_next(&self) -> Held {
        let (arrives, arrived) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.lock() = Some(Waiting { arrived: arrives, released });
        Held { arrived: Some(arrived), _release: release }
    }

    /// Returns when the update may take effect.
    pub(crate) async fn pass(&self) {
        let waiting = self.lock().take();
        if let Some(waiting) = waiting {
            // A test may have no interest in the arrival; a dropped release is one.
            let _ = waiting.arrived.send(());
            let _ = waiting.released.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Resolves when the update has arrived; it has had no effect. To be taken once.
    pub(crate) fn arrived(&mut self) -> oneshot::Receiver<()> {
        // Taken again, it reports that nothing will arrive.
        self.arrived.take().unwrap_or_else(|| oneshot::channel().1)
    }
}
