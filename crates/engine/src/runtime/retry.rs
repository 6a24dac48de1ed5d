//! The pauses between retries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::runtime::settings::WorkerSettings;

/// Endless pauses that double from `retry_min` to `retry_max`, with jitter.
pub(crate) struct Pauses {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
}

impl Pauses {
    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(settings.retry_min)
            .with_max_delay(settings.retry_max)
            .without_max_times()
            .with_jitter();
        Self { builder, pauses: builder.build() }
    }

    pub(crate) fn next(&mut self) -> Duration {
        loop {
            match self.pauses.next() {
                Some(pause) => return pause,
                None => self.pauses = self.builder.build(),
            }
        }
    }
}
