//! A limit on the number of chunks per second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Limits the rate of steps: waits if they come too fast.
pub(crate) struct Pace {
    /// The least time between two steps; `None` without a limit.
    step: Option<Duration>,
    due: Instant,
}

/// How early a step may be: shorter sleeps cost more than they are worth.
const SLACK: Duration = Duration::from_millis(20);

/// How much lost time later steps may make up for.
const ARREARS: Duration = Duration::from_secs(1);

impl Pace {
    pub(crate) fn new(rate: Option<u32>) -> Self {
        let step = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self { step, due: Instant::now() }
    }

    /// Counts `count` steps.
    pub(crate) async fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step().await;
        }
    }

    pub(crate) async fn step(&mut self) {
        let Some(step) = self.step else { return };
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(ARREARS).unwrap_or(now)) + step;
        if self.due > now + SLACK {
            sleep_until(self.due).await;
        }
    }
}
