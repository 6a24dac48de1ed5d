//! The breaker: a single event that can never succeed is poison and goes to the dead letters. If nearly all are
//! refused, the cause is the configuration, and dead-lettering them would remove sound events from the stream.
//!
//! The breaker counts chunks, each by its last result, so that one chunk which is changed again and again proves
//! nothing. Entries that are not valid events, and entries that exceeded the number of deliveries, do not count: broken
//! publishers do not trip the breaker.
//!
//! While the breaker holds, refused operations stay where they are: pending in the log and unacknowledged on the bus.
//! Their batches are retried with pauses. Each of them counts as under way, so no more than `in_flight_events` events
//! are ever held, and everything else waits on the bus. A crash meanwhile loses nothing and repeats what is held, as
//! any crash does. Success releases what is held: as soon as enough chunks end well, the refused rest is poison after
//! all.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_model::Time;
use tracing::{error, info};
use uuid::Uuid;

use crate::ports::Fault;

/// The number of chunks that are remembered, and the least number for a verdict.
const WINDOW: usize = 100;
const LEAST: usize = 50;

/// The breaker holds if at least nine of ten failed.
const SHARE: (usize, usize) = (9, 10);

/// Decides whether failed operations may go to the dead letters.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The last result of each chunk and whether it failed, the newest at the back.
    ended: VecDeque<(Uuid, bool)>,
    held: Option<(Time, Fault)>,
}

impl Breaker {
    /// Records how chunks ended, with the fault of each that failed; returns whether the failed ones may be
    /// dead-lettered.
    pub(crate) fn judge<'a>(&self, ended: impl Iterator<Item = (Uuid, Option<&'a Fault>)>, now: Time) -> bool {
        let mut inner = self.lock();
        let mut last = None;
        for (chunk, fault) in ended {
            inner.note(chunk, fault.is_some());
            last = fault.or(last);
        }
        let failed = inner.ended.iter().filter(|(_, failed)| *failed).count();
        let of = inner.ended.len();
        if of < LEAST || failed * SHARE.1 < of * SHARE.0 {
            if inner.held.take().is_some() {
                info!("enough chunks succeed again; chunks that are still refused go to the dead letters");
            }
            return true;
        }
        let since = inner.held.as_ref().map(|(since, _)| *since);
        if let Some(last) = last {
            let message = format!(
                "{failed} of the last {of} chunks were refused, which looks like a configuration error; held and \
                 retried; fix the cause, or set worker.hold = false to dead-letter them; last refusal: {last}"
            );
            let fault = Fault { message, ..last.clone() };
            if since.is_none() {
                error!(%fault, "nearly all chunks are refused; holding them");
            }
            inner.held = Some((since.unwrap_or(now), fault));
        }
        false
    }

    /// Since when nearly all chunks have been refused, and why.
    pub(crate) fn held(&self) -> Option<(Time, Fault)> {
        self.lock().held.clone()
    }

    /// Why nearly all chunks are refused, if that has lasted longer than `patience`.
    pub(crate) fn lasting(&self, now: Time, patience: Duration) -> Option<Fault> {
        let (since, fault) = self.held()?;
        (now.seconds_since(since) > patience.as_secs_f64()).then_some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, chunk: Uuid, failed: bool) {
        if let Some(earlier) = self.ended.iter().position(|(id, _)| *id == chunk) {
            self.ended.remove(earlier);
        }
        self.ended.push_back((chunk, failed));
        if self.ended.len() > WINDOW {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ports::FaultClass;

    fn judge(breaker: &Breaker, chunks: std::ops::Range<u128>, failed: bool) -> bool {
        let fault = Fault::new(FaultClass::Rejected, "test", "no such column");
        breaker.judge(chunks.map(|chunk| (Uuid::from_u128(chunk), failed.then_some(&fault))), Time::from_micros(1))
    }

    #[test]
    fn a_few_failures_are_poison() {
        let breaker = Breaker::default();
        assert!(judge(&breaker, 0..49, true));
        assert!(judge(&breaker, 100..106, false));
        assert!(judge(&breaker, 49..53, true), "53 of 59");
        assert!(breaker.held().is_none());
    }

    #[test]
    fn nearly_everything_is_configuration_until_it_succeeds() {
        let breaker = Breaker::default();
        assert!(!judge(&breaker, 0..50, true));
        let (since, fault) = breaker.held().unwrap();
        assert_eq!((since, fault.class), (Time::from_micros(1), FaultClass::Rejected));
        assert!(fault.message.starts_with("50 of the last 50 chunks were refused"), "{fault}");
        assert!(!judge(&breaker, 0..50, true), "the same again");
        assert!(judge(&breaker, 0..50, false));
        assert!(breaker.held().is_none());
    }

    #[test]
    fn one_chunk_proves_nothing_however_often_it_fails() {
        let breaker = Breaker::default();
        for _ in 0..1000 {
            assert!(judge(&breaker, 0..1, true));
        }
    }

    #[test]
    fn chunks_beyond_the_window_do_not_count() {
        let breaker = Breaker::default();
        assert!(judge(&breaker, 0..1000, false));
        assert!(judge(&breaker, 2000..2089, true));
        assert!(!judge(&breaker, 2089..2090, true));
    }
}
