//! Carries waiting events, the events of a chunk in their order, and removes those that have ended.

use std::collections::BTreeMap;

use chunk_sync_model::{Cause, Time};
use tracing::info;
use uuid::Uuid;

use super::EVIDENCE_WITHIN;
use crate::pipeline::breaker::Verdict;
use crate::pipeline::breakers::{Evidence, Kind, Step};
use crate::pipeline::envelope::{Operation, Refusal};
use crate::pipeline::waiting_room::Due;
use crate::pipeline::worker::Worker;
use crate::ports::{DeadLetter, Delivery, Fault, WaitReason, WaitingEvent};
use crate::runtime::retry::retry;

/// The number of chunks that are tried together.
pub(super) const CHUNKS: usize = 32;

/// The events of some chunks, as they are read from the table.
#[derive(Default)]
pub(super) struct Sorted {
    operations: Vec<Operation>,
    /// Events that can never succeed, by number.
    dead: Vec<(u64, Uuid, DeadLetter)>,
}

impl Worker {
    /// Loads the chunks that have waiting events, and retries until the system of record answers. `None` if the service
    /// was stopped first.
    pub(crate) async fn load_waiting(&self) -> Result<Option<()>, Fault> {
        let read = || async {
            self.room.amount.measure(&*self.waiting).await?;
            self.waiting.waiting_chunks().await
        };
        let read = retry(&self.settings.worker, &self.stop, "read the waiting events", read);
        let Some(chunks) = self.stop.during(read).await.transpose()?.flatten() else { return Ok(None) };
        if !chunks.is_empty() {
            info!(chunks = chunks.len(), "events of some chunks wait; `chunk-sync status` shows why");
        }
        self.room.load(chunks.into_iter().map(|(chunk, _)| chunk));
        Ok(Some(()))
    }

    /// Carries waiting events until the worker is stopped or the term ends.
    pub(crate) async fn drain_waiting(self) -> Result<(), Fault> {
        let carry = || async {
            while self.term.holds() && self.stop.during(self.room.until_due()).await.is_some() {
                let due = self.room.take_due(CHUNKS, self.settings.worker.retry_max);
                self.carry_waiting(&due).await?;
            }
            Ok(())
        };
        retry(&self.settings.worker, &self.stop, "carry waiting events", carry).await.map(|_| ())
    }

    async fn carry_waiting(&self, due: &[Due]) -> Result<(), Fault> {
        // What only time can correct is compared with the present time of the bus, not with that of the entry.
        let Some(now) = self.clocks.agree().await else { return Ok(()) };
        let ids: Vec<Uuid> = due.iter().map(|due| due.chunk).collect();
        let events = self.waiting.waiting_of(&ids, self.settings.worker.batch).await?;
        let mut chunks: BTreeMap<Uuid, Vec<WaitingEvent>> = BTreeMap::new();
        for event in events {
            chunks.entry(event.event.chunk).or_default().push(event);
        }
        for due in due.iter().filter(|due| !chunks.contains_key(&due.chunk)) {
            // It may only have been beyond the end of the page.
            match self.waiting.waiting_of(&[due.chunk], 1).await?.is_empty() {
                true => self.room.forget(*due),
                false => self.room.proceed(due.chunk),
            }
        }
        self.progress.changed.notify_waiters();
        let mut sorted = Sorted::default();
        for due in due {
            if let Some(events) = chunks.remove(&due.chunk) {
                self.sort(*due, events, now, &mut sorted).await;
            }
        }
        self.end_dead(sorted.dead).await?;
        if sorted.operations.is_empty() {
            return Ok(());
        }
        self.progress.took(&sorted.operations);
        self.carry_to_the_end(sorted.operations).await
    }

    /// Reads the events of one chunk in their order, up to the first one that has to wait longer. `now` is the bus's time.
    async fn sort(&self, due: Due, events: Vec<WaitingEvent>, now: Time, sorted: &mut Sorted) {
        for WaitingEvent { number, event, .. } in events {
            let delivery = Delivery {
                id: event.entry.unwrap_or_default(),
                attempt: event.attempt,
                again: true,
                added_at: now,
                read_at: now,
                fields: event.fields,
            };
            match Operation::of(delivery, &self.settings.limits, self.clock.now()) {
                Ok(mut operation) => {
                    let kind = Kind::of(&operation.event);
                    let evidence = Evidence { kind, chunk: due.chunk, fault: None, again: true };
                    self.breakers.judge(Step::Admission, &[evidence], self.clock.now());
                    operation.waiting = Some(number);
                    operation.held = event.reason == WaitReason::Refused;
                    if event.entry.is_none() {
                        operation.entry = None;
                    }
                    sorted.operations.push(operation.within(&self.targets));
                }
                Err(refusal) => {
                    if !self.still_waits(&refusal, due) {
                        sorted.dead.push((number, due.chunk, refusal.letter));
                        continue;
                    }
                    let reason = refusal.reason();
                    self.put_off(due.chunk, reason);
                    self.explain(&[number], reason, &refusal.letter.error).await;
                    return;
                }
            }
        }
    }

    /// Whether an event that is refused once more waits longer. Its refusal is evidence while there is no verdict.
    fn still_waits(&self, refusal: &Refusal, due: Due) -> bool {
        let fault = Some(&refusal.fault);
        let evidence = Evidence { kind: refusal.kind, chunk: due.chunk, fault, again: true };
        let verdict = self.breakers.judge(Step::Admission, &[evidence], self.clock.now()).of(refusal.kind);
        let undecided = verdict == Verdict::Unknown && due.waited < EVIDENCE_WITHIN;
        let holds = self.settings.worker.hold && refusal.cause != Cause::Format;
        holds && (verdict == Verdict::Hold || undecided)
    }

    /// Writes the dead letters, then removes their events from the table.
    async fn end_dead(&self, dead: Vec<(u64, Uuid, DeadLetter)>) -> Result<(), Fault> {
        if dead.is_empty() {
            return Ok(());
        }
        let letters: Vec<DeadLetter> = dead.iter().map(|(_, _, letter)| letter.clone()).collect();
        if self.dead_letter(&letters).await? {
            let numbers: Vec<u64> = dead.iter().map(|(number, ..)| *number).collect();
            self.remove_waiting(&numbers).await?;
            dead.iter().for_each(|(_, chunk, _)| self.room.proceed(*chunk));
        }
        Ok(())
    }
}
