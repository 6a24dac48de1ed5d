//! The only place where the engine reads the clock.

use std::fmt;
use std::sync::Arc;

use chunk_sync_model::Time;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;

/// Waits until that instant.
type Sleep = dyn Fn(Instant) -> BoxFuture<'static, ()> + Send + Sync;

/// The clock behind every decision that depends on the time: the machine's, unless another one is set.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    sleep: Arc<Sleep>,
}

impl Clock {
    /// A clock that returns the results of `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), sleep: Arc::new(|until| Box::pin(tokio::time::sleep_until(until))) }
    }

    /// The same for a process that may be paused: `sleep` waits until the given instant, and longer while the process
    /// is paused.
    #[must_use]
    pub fn with_sleep(self, sleep: impl Fn(Instant) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { sleep: Arc::new(sleep), ..self }
    }

    /// Waits until that instant of the monotonic clock.
    pub(crate) async fn sleep_until(&self, until: Instant) {
        (self.sleep)(until).await;
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        (self.now)()
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.timestamp().into()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.timestamp())
    }
}
