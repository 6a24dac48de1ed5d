//! The breaker: a single event that can never succeed is poison and goes to the dead letters. If nearly all are
//! refused, the cause is the configuration, and dead-lettering them would remove sound events from the stream.
//!
//! There is one for each step and kind of event (`breakers.rs`). That of admission judges what a limit, the list of
//! models or the clock refuses; it needs less evidence, because one wrong setting refuses everything.
//!
//! A breaker counts chunks, each by its last result, so that one chunk which is changed again and again proves
//! nothing. Entries that are no events under any configuration, and entries that exceeded the number of deliveries, do
//! not count: broken publishers do not trip a breaker.
//!
//! While a breaker holds, refused events wait in the table of waiting events (`waiting.rs`), which retries them with
//! pauses. They use no place of a batch under way, so everything else is carried. Their retries are
//! evidence only while there is no verdict. Success releases what is held: as soon as enough chunks end well, the
//! refused rest is poison after all.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_sync_model::Time;
use tracing::{error, info};
use uuid::Uuid;

use crate::ports::Fault;

/// The number of chunks that are remembered.
const WINDOW: usize = 100;

/// The least number of chunks for a verdict on what a store refuses, and on what a setting or the clock refuses.
const LEAST: usize = 50;
const LEAST_ADMITTED: usize = 10;

/// The breaker holds if at least nine of ten failed.
const SHARE: (usize, usize) = (9, 10);

/// What the last results show about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There are too few results.
    Unknown,
    /// Others succeed: the refused event is at fault.
    Poison,
    /// Nearly all are refused: the configuration is at fault, and refused events are held.
    Hold,
}

/// Judges refusals by the last results.
#[derive(Debug)]
pub(crate) struct Breaker {
    least: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last result of each chunk and whether it failed, the newest at the back.
    ended: VecDeque<(Uuid, bool)>,
    held: Option<(Time, Fault)>,
}

impl Breaker {
    /// A breaker for what stores or the system of record refuse.
    pub(crate) fn of_stores() -> Self {
        Self { least: LEAST, inner: Mutex::default() }
    }

    /// A breaker for what a setting or the clock refuses.
    pub(crate) fn of_admission() -> Self {
        Self { least: LEAST_ADMITTED, inner: Mutex::default() }
    }

    /// Records how chunks ended, with the fault of each that failed, and judges the failures.
    pub(crate) fn judge<'a>(&self, ended: impl Iterator<Item = (Uuid, Option<&'a Fault>)>, now: Time) -> Verdict {
        let mut inner = self.lock();
        let mut last = None;
        for (chunk, fault) in ended {
            inner.note(chunk, fault.is_some());
            last = fault.or(last);
        }
        let verdict = inner.verdict(self.least);
        match (verdict, last) {
            (Verdict::Unknown, _) | (Verdict::Hold, None) => {}
            (Verdict::Poison, _) => inner.release(),
            (Verdict::Hold, Some(last)) => inner.hold(last, now),
        }
        verdict
    }

    /// The verdict on the results so far.
    pub(crate) fn verdict(&self) -> Verdict {
        self.lock().verdict(self.least)
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
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn failed(&self) -> usize {
        self.ended.iter().filter(|(_, failed)| *failed).count()
    }

    fn verdict(&self, least: usize) -> Verdict {
        let of = self.ended.len();
        if of < least {
            Verdict::Unknown
        } else if self.failed() * SHARE.1 < of * SHARE.0 {
            Verdict::Poison
        } else {
            Verdict::Hold
        }
    }

    fn release(&mut self) {
        if self.held.take().is_some() {
            info!("enough chunks succeed again; chunks that are still refused go to the dead letters");
        }
    }

    fn hold(&mut self, last: &Fault, now: Time) {
        let message = format!(
            "{} of the last {} chunks were refused, which looks like a configuration error; held and retried; fix the \
             cause, or set worker.hold = false to dead-letter them; last refusal: {last}",
            self.failed(),
            self.ended.len()
        );
        let fault = Fault { message, ..last.clone() };
        let since = self.held.as_ref().map(|(since, _)| *since);
        if since.is_none() {
            error!(%fault, "nearly all chunks are refused; holding them until enough succeed");
        }
        self.held = Some((since.unwrap_or(now), fault));
    }

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

    fn judge(breaker: &Breaker, chunks: std::ops::Range<u128>, failed: bool) -> Verdict {
        let fault = Fault::new(FaultClass::Rejected, "test", "no such column");
        breaker.judge(chunks.map(|chunk| (Uuid::from_u128(chunk), failed.then_some(&fault))), Time::from_micros(1))
    }

    #[test]
    fn a_few_failures_are_poison() {
        let breaker = Breaker::of_stores();
        assert_eq!(judge(&breaker, 0..49, true), Verdict::Unknown);
        assert_eq!(judge(&breaker, 100..106, false), Verdict::Poison);
        assert_eq!(judge(&breaker, 49..53, true), Verdict::Poison, "53 of 59");
        assert!(breaker.held().is_none());
    }

    #[test]
    fn nearly_everything_is_configuration_until_it_succeeds() {
        let breaker = Breaker::of_stores();
        assert_eq!(judge(&breaker, 0..50, true), Verdict::Hold);
        let (since, fault) = breaker.held().unwrap();
        assert_eq!((since, fault.class), (Time::from_micros(1), FaultClass::Rejected));
        assert!(fault.message.starts_with("50 of the last 50 chunks were refused"), "{fault}");
        assert_eq!(judge(&breaker, 0..50, true), Verdict::Hold, "the same again");
        assert_eq!(judge(&breaker, 0..50, false), Verdict::Poison);
        assert!(breaker.held().is_none());
    }

    #[test]
    fn one_wrong_setting_shows_after_a_few_chunks() {
        let breaker = Breaker::of_admission();
        assert_eq!(judge(&breaker, 0..9, true), Verdict::Unknown);
        assert_eq!(judge(&breaker, 9..10, true), Verdict::Hold);
        assert_eq!(judge(&breaker, 10..12, false), Verdict::Poison);
    }

    #[test]
    fn one_chunk_proves_nothing_however_often_it_fails() {
        let breaker = Breaker::of_stores();
        for _ in 0..1000 {
            assert_eq!(judge(&breaker, 0..1, true), Verdict::Unknown);
        }
    }

    #[test]
    fn chunks_beyond_the_window_do_not_count() {
        let breaker = Breaker::of_stores();
        assert_eq!(judge(&breaker, 0..1000, false), Verdict::Poison);
        assert_eq!(judge(&breaker, 2000..2089, true), Verdict::Poison);
        assert_eq!(judge(&breaker, 2089..2090, true), Verdict::Hold);
    }
}
