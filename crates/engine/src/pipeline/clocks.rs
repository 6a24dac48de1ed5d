//! The clock of this process and that of the bus. Versions are assigned from times that both must agree on: a process
//! whose clock differs from the bus's by more than the clock bound merges nothing until the clocks agree again. What it
//! has read stays on the bus and in the log.
//!
//! Entry ids may lie ahead of the bus's clock: a client chose one, or the server's clock was set back. Times are not
//! compared with such an id (see [`Delivery::clock`]), but the server gives every later entry an id above it. That is
//! reported with the remedy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_sync_model::Time;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::ports::{Bus, Delivery, EntryId, Fault, FaultClass};
use crate::runtime::clock::Clock;
use crate::runtime::metrics;
use crate::runtime::progress::{Progress, Stop};

/// How often the clocks are compared.
const COMPARE: Duration = Duration::from_secs(1);

/// How often an entry id that lies ahead is reported.
const REPORT: Duration = Duration::from_secs(60);

/// Compares the clocks for one term.
#[derive(Clone)]
pub(crate) struct Clocks {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    /// The clock bound, in microseconds.
    pub(crate) bound: i64,
    pub(crate) progress: Arc<Progress>,
    pub(crate) last: Arc<Mutex<Comparison>>,
    pub(crate) stop: Stop,
}

/// The last comparison of the clocks, and when an entry id that lies ahead was last reported.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    compared: Option<Instant>,
    /// When the bus stated its time, and that time.
    stated: Option<(Instant, Time)>,
    reported: Option<Instant>,
}

impl Clocks {
    /// Waits until the clocks agree, and returns the bus's time; `None` if the worker was stopped first.
    ///
    /// A failed answer is no verdict. Until the bus has stated its time in this term, nothing is merged and no time is
    /// judged: events wait. Later the last time that it stated counts, advanced by the monotonic clock.
    pub(crate) async fn agree(&self) -> Option<Time> {
        if self.last().compared.is_some_and(|at| at.elapsed() < COMPARE)
            && let Some(now) = self.stated()
        {
            return Some(now);
        }
        loop {
            if let Ok(Ok(theirs)) = tokio::time::timeout(COMPARE, self.bus.now()).await {
                self.last().stated = Some((Instant::now(), theirs));
            }
            match self.stated() {
                Some(now) => match difference(self.clock.now(), now, self.bound) {
                    None => return Some(self.agreed(now)),
                    Some(fault) => self.differs(&fault),
                },
                None => debug!("the bus has not stated its time yet; merging waits"),
            }
            self.stop.during(tokio::time::sleep(COMPARE)).await?;
        }
    }

    fn agreed(&self, now: Time) -> Time {
        if self.progress.clock_differs(None) {
            info!("the clocks of this process and of the bus agree again; merging continues");
        }
        metrics::clock_differs(false);
        self.last().compared = Some(Instant::now());
        now
    }

    fn differs(&self, fault: &Fault) {
        if self.progress.clock_differs(Some(fault)) {
            error!(%fault, "merging waits until the clocks of this process and of the bus agree");
        }
        metrics::clock_differs(true);
    }

    /// The bus's clock, if it has been stated.
    fn stated(&self) -> Option<Time> {
        let (at, time) = self.last().stated?;
        let passed = i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX);
        Some(Time::from_micros(time.micros().saturating_add(passed)))
    }

    /// Reports the first delivery whose entry id lies ahead of the bus's clock by more than the bound.
    pub(crate) fn examine(&self, deliveries: &[Delivery]) {
        let ahead = |delivery: &&Delivery| delivery.added_at.micros() > delivery.read_at.micros() + self.bound;
        let ahead = deliveries.iter().find(ahead);
        self.progress.entry_ahead(ahead.map(|delivery| (delivery.id, delivery.read_at)));
        let Some(delivery) = ahead else { return };
        let mut last = self.last();
        if last.reported.is_none_or(|at| at.elapsed() > REPORT) {
            last.reported = Some(Instant::now());
            warn!("{}", ahead_message(delivery.id, delivery.read_at));
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Comparison> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The report of an entry id that lies ahead of the bus's clock.
pub(crate) fn ahead_message(id: EntryId, clock: Time) -> String {
    format!(
        "entry {id} lies ahead of the bus's clock ({clock}), and the server gives every later entry an id above it; \
         remove the entry with XDEL, then lower the last id with XSETID, or wait until the clock has passed it"
    )
}

/// Why a process with the clock `own` must not merge; `None` if it may.
fn difference(own: Time, bus: Time, bound: i64) -> Option<Fault> {
    let apart = own.micros().saturating_sub(bus.micros());
    (apart.abs() > bound).then(|| {
        let side = if apart > 0 { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of this process ({own}) is {} s {side} that of the bus ({bus}), and at most {} s are allowed; \
             correct the clock that is wrong, with NTP",
            apart.abs() / 1_000_000,
            bound / 1_000_000
        );
        Fault::new(FaultClass::Misconfigured, "clock", message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clocks_that_differ_by_no_more_than_the_bound_agree() {
        let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
        for own in [700, 1_000, 1_300] {
            assert!(difference(at(own), at(1_000), 300_000_000).is_none(), "{own}");
        }
        let ahead = difference(at(1_301), at(1_000), 300_000_000).unwrap();
        assert!(ahead.message.contains("301 s ahead of"), "{ahead}");
        assert!(difference(at(699), at(1_000), 300_000_000).unwrap().message.contains("301 s behind"));
    }
}
