//! Not faster than so many chunks a second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts steps, and waits where they come too fast.
pub(crate) struct Pace {
    /// How long a step is to take, where that matters.
    step: Option<Duration>,
    due: Instant,
}

/// How far ahead of its time a step may be: shorter sleeps cost more than they are worth.
const SLACK: Duration = Duration::from_millis(20);

/// How much time that was lost may be made up for.
const ARREARS: Duration = Duration::from_secs(1);

impl Pace {
    pub(crate) fn new(rate: Option<u32>) -> Self {
        let step = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Self { step, due: Instant::now() }
    }

    /// Of many things at once.
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
