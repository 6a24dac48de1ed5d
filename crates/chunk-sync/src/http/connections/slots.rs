//! A bounded number of places for connections. A new connection takes the place of the one that has been idle longest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The places. Clones share them.
#[derive(Clone)]
pub(super) struct Slots(Arc<Mutex<Open>>, usize);

#[derive(Default)]
struct Open {
    /// Orders what happened: a connection with a lower number has been as it is for longer.
    clock: u64,
    /// By the number of the place.
    places: BTreeMap<u64, State>,
}

#[derive(Default)]
struct State {
    /// Requests whose response is not complete. A connection has one at a time.
    requests: usize,
    /// When it became idle or busy.
    since: u64,
    task: Option<AbortHandle>,
}

/// The place of one connection. It is free again when every clone is dropped.
#[derive(Clone)]
pub(super) struct Slot(Arc<Entered>);

struct Entered {
    places: Slots,
    number: u64,
}

/// Keeps a connection from being closed in favour of another.
pub(super) struct Busy(Slot);

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::default(), most)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place: a free one, or that of the connection that has been idle longest, which is closed. `None` if every
    /// connection is busy.
    pub(super) fn take(&self) -> Option<Slot> {
        self.take_if(|state| state.requests == 0)
    }

    /// A place: a free one, or that of a connection that is closed, an idle one before a busy one.
    pub(super) fn take_from_oldest(&self) -> Slot {
        self.take().or_else(|| self.take_if(|_| true)).unwrap_or_else(|| self.add(&mut self.lock()))
    }

    fn take_if(&self, may_close: impl Fn(&State) -> bool) -> Option<Slot> {
        let mut open = self.lock();
        if open.places.len() >= self.1 {
            let closable = open.places.iter().filter(|(_, state)| may_close(state));
            let (&oldest, _) = closable.min_by_key(|(_, state)| state.since)?;
            // Its place is counted as free from now on; the task ends at its next await.
            let closed = open.places.remove(&oldest);
            if let Some(task) = closed.and_then(|state| state.task) {
                task.abort();
            }
        }
        Some(self.add(&mut open))
    }

    fn add(&self, open: &mut Open) -> Slot {
        open.clock += 1;
        let number = open.clock;
        open.places.insert(number, State { since: number, ..State::default() });
        Slot(Arc::new(Entered { places: self.clone(), number }))
    }
}

impl Slot {
    /// The task that is aborted when the place is taken.
    pub(super) fn belongs_to(&self, task: AbortHandle) {
        match self.0.places.lock().places.get_mut(&self.0.number) {
            Some(state) => state.task = Some(task),
            None => task.abort(),
        }
    }

    /// Marks the connection as busy until the result is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.change(|requests| requests + 1);
        Busy(self.clone())
    }

    fn change(&self, requests: impl Fn(usize) -> usize) {
        let mut open = self.0.places.lock();
        open.clock += 1;
        let now = open.clock;
        if let Some(state) = open.places.get_mut(&self.0.number) {
            (state.requests, state.since) = (requests(state.requests), now);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|requests| requests.saturating_sub(1));
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A place with a task that runs until it is aborted.
    fn taken(place: Option<Slot>) -> (Slot, tokio::task::JoinHandle<()>) {
        let place = place.unwrap();
        let task = tokio::spawn(std::future::pending());
        place.belongs_to(task.abort_handle());
        (place, task)
    }

    #[tokio::test]
    async fn the_connection_that_is_idle_longest_is_closed() {
        let places = Slots::new(3);
        let (first, second, third) = (taken(places.take()), taken(places.take()), taken(places.take()));
        let busy = first.0.busy();
        drop(second.0.busy());
        let _fourth = taken(places.take());
        assert!(third.1.await.unwrap_err().is_cancelled(), "the third was idle longest");
        let _fifth = taken(places.take());
        assert!(second.1.await.unwrap_err().is_cancelled());
        assert!(!first.1.is_finished(), "a busy connection is not closed");
        drop(busy);
    }

    #[tokio::test]
    async fn where_all_are_busy_only_the_reserve_closes_one() {
        let places = Slots::new(2);
        let (first, second) = (taken(places.take()), taken(places.take()));
        let _busy = (second.0.busy(), first.0.busy());
        assert!(places.take().is_none());
        let third = taken(Some(places.take_from_oldest()));
        assert!(second.1.await.unwrap_err().is_cancelled(), "it was busy longest");
        drop(third.0);
        assert!(places.take().is_some(), "a place that was given back is free");
        assert!(!first.1.is_finished());
    }
}
