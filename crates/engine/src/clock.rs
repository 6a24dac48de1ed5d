//! The one place where the engine looks at the clock.

use chunk_sync_model::Time;

/// Now.
pub(crate) fn now() -> Time {
    jiff::Timestamp::now().into()
}
