//! The one place where the engine looks at the clock.

use std::fmt;
use std::sync::Arc;

use chunk_sync_model::Time;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;

/// Waits until that instant.
type Sleep = dyn Fn(Instant) -> BoxFuture<'static, ()> + Send + Sync;

/// What time it is, for whatever is decided by the time: that of the machine, unless somebody makes it another.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    sleep: Arc<Sleep>,
}

impl Clock {
    /// A clock that shows what `now` says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), sleep: Arc::new(|until| Box::pin(tokio::time::sleep_until(until))) }
    }

    /// The same for a process that may stand still: `sleep` waits until the given instant, and on while the process does.
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

    pub(crate) fn now(&self) -> Time {
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

/// Now by the machine's clock, for what is only shown.
pub(crate) fn now() -> Time {
    Timestamp::now().into()
}
