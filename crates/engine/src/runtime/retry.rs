//! One way to repeat a call to a port: as long as the policy of its faults is to repeat it, with growing pauses.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::ports::{Fault, FaultClass};
use crate::runtime::progress::Stop;
use crate::runtime::settings::WorkerSettings;

/// Pauses while the bus is full.
const FULL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Endless pauses that double from the shortest to the longest, with jitter.
pub(crate) struct Pauses {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Pauses {
    /// From `retry_min` to `retry_max`.
    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        Self::between(settings.retry_min, settings.retry_max)
    }

    fn between(shortest: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self { builder, pauses: builder.build(), longest }
    }

    /// Begins with the shortest again: the server has answered.
    pub(crate) fn reset(&mut self) {
        self.pauses = self.builder.build();
    }

    pub(crate) fn next(&mut self) -> Duration {
        loop {
            match self.pauses.next() {
                Some(pause) => return pause,
                None => self.reset(),
            }
        }
    }

    /// Calls until the call succeeds or `repeats` refuses its fault; `None` if it is stopped in a pause before. A call
    /// that ran longer than the longest pause had answers in between: the pauses begin again.
    async fn repeat<T, F: Future<Output = Result<T, Fault>>>(
        mut self,
        what: &'static str,
        repeats: fn(&Fault) -> bool,
        stop: Option<&Stop>,
        mut call: impl FnMut() -> F,
    ) -> Result<Option<T>, Fault> {
        loop {
            let began = Instant::now();
            match call().await {
                Ok(done) => return Ok(Some(done)),
                Err(fault) if !repeats(&fault) => return Err(fault),
                Err(fault) => warn!(what, %fault, "a call failed; retrying"),
            }
            if began.elapsed() > self.longest {
                self.reset();
            }
            let rested = match stop {
                Some(stop) => stop.during(sleep(self.next())).await,
                None => {
                    sleep(self.next()).await;
                    Some(())
                }
            };
            if rested.is_none() {
                return Ok(None);
            }
        }
    }
}

fn passes(fault: &Fault) -> bool {
    fault.policy().retries()
}

/// Repeats `call`, named `what` in the log, until it succeeds. A stop interrupts a pause and never the call; then the
/// result is `None`.
///
/// # Errors
/// The first fault whose policy is not to repeat the call.
pub(crate) async fn retry<T, F: Future<Output = Result<T, Fault>>>(
    settings: &WorkerSettings,
    stop: &Stop,
    what: &'static str,
    call: impl FnMut() -> F,
) -> Result<Option<T>, Fault> {
    Pauses::new(settings).repeat(what, passes, Some(stop), call).await
}

/// Like [`retry`], for a caller that is dropped when it has to end.
///
/// # Errors
/// The first fault whose policy is not to repeat the call.
pub(crate) async fn retry_always<T, F: Future<Output = Result<T, Fault>>>(
    settings: &WorkerSettings,
    what: &'static str,
    mut call: impl FnMut() -> F,
) -> Result<T, Fault> {
    loop {
        if let Some(done) = Pauses::new(settings).repeat(what, passes, None, &mut call).await? {
            return Ok(done);
        }
    }
}

/// Repeats `call` as long as it is refused because the bus is full.
///
/// # Errors
/// Any other fault.
pub(crate) async fn while_full<T, F: Future<Output = Result<T, Fault>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, Fault> {
    let full = |fault: &Fault| fault.class == FaultClass::Busy;
    loop {
        if let Some(done) = Pauses::between(FULL.0, FULL.1).repeat("publish", full, None, &mut call).await? {
            return Ok(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::runtime::progress::Stopper;

    fn fault(class: FaultClass) -> Fault {
        Fault::new(class, "test", "failed")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_until_it_succeeds() {
        let ((_stopper, stop), mut left) = (Stopper::new(), 3);
        let call = || {
            left -= 1;
            ready(if left == 0 { Ok("done") } else { Err(fault(FaultClass::Unavailable)) })
        };
        assert_eq!(retry(&WorkerSettings::default(), &stop, "test", call).await.ok(), Some(Some("done")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_cannot_pass_is_returned_at_once() {
        let ((_stopper, stop), mut calls) = (Stopper::new(), 0);
        let call = || {
            calls += 1;
            ready(Err::<(), _>(fault(FaultClass::Rejected)))
        };
        let refused = retry(&WorkerSettings::default(), &stop, "test", call).await;
        assert!(refused.is_err_and(|fault| fault.class == FaultClass::Rejected));
        assert_eq!(calls, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let (stopper, stop) = Stopper::new();
        stopper.stop();
        let call = || ready(Err::<(), _>(fault(FaultClass::Busy)));
        assert_eq!(retry(&WorkerSettings::default(), &stop, "test", call).await.ok(), Some(None));
    }
}
