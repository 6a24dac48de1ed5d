//! Holds one update between being received and taking effect, so that tests can put others before it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// Where every update passes.
#[derive(Default)]
pub(crate) struct Gate {
    waiting: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

/// An update that is held, or will be. Dropped, it lets go.
pub struct Held {
    arrived: Option<oneshot::Receiver<()>>,
    _release: oneshot::Sender<()>,
}

impl Gate {
    pub(crate) fn hold_next(&self) -> Held {
        let (tell_arrived, arrived) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((tell_arrived, released));
        Held { arrived: Some(arrived), _release: release }
    }

    pub(crate) async fn pass(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((tell_arrived, released)) = waiting {
            // Whoever does not ask is not told, and a dropped release is one.
            let _ = tell_arrived.send(());
            let _ = released.await;
        }
    }
}

impl Held {
    /// Returns when the update is there; it has had no effect.
    pub async fn arrived(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            // A server that is gone holds nothing.
            let _ = arrived.await;
        }
    }

    /// Lets it go.
    pub fn release(self) {}
}
