//! The one place where the engine looks at the clock.

use std::fmt;
use std::sync::Arc;

use chunk_sync_model::Time;
use jiff::Timestamp;

/// What time it is, for whatever is decided by the time: that of the machine, unless somebody makes it another.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that shows what `now` says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        (self.0)()
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
