//! A value that tasks share and wait for. Unlike `tokio::sync::watch`, which wakes its receivers in a random order, it
//! wakes them in the order in which they began to wait: a seed of the simulation repeats its course exactly.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value with its waiters. Clones share it.
#[derive(Debug, Default)]
pub(crate) struct SharedValue<T>(Arc<Inner<T>>);

#[derive(Debug, Default)]
struct Inner<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Clone for SharedValue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> SharedValue<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Inner { value: Mutex::new(value), changed: Notify::new() }))
    }

    /// Reads the value.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.lock())
    }

    /// Changes the value, and wakes those who wait for it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock());
        self.0.changed.notify_waiters();
    }

    /// Waits until the value is as `wanted`.
    pub(crate) async fn until(&self, wanted: impl Fn(&T) -> bool) {
        loop {
            // Taken before the value is read: a change in between wakes it.
            let changed = self.0.changed.notified();
            if wanted(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiters_wake_in_the_order_in_which_they_began_to_wait() {
        let (value, order) = (SharedValue::new(0), SharedValue::new(Vec::new()));
        let mut waiters = JoinSet::new();
        for number in 0..20 {
            let (value, order) = (value.clone(), order.clone());
            waiters.spawn(async move {
                value.until(|value| *value == 1).await;
                order.change(|order: &mut Vec<u32>| order.push(number));
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        value.change(|value| *value = 1);
        while waiters.join_next().await.is_some() {}
        order.read(|order| assert_eq!(*order, (0..20).collect::<Vec<u32>>()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_is_as_wanted_needs_no_change() {
        SharedValue::new(true).until(|value| *value).await;
    }
}
