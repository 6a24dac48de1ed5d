//! One session: reads an open log until something fails.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use chunk_sync_model::{Event, Time};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};
use uuid::Uuid;

use super::fold::{Touched, folded};
use super::window::{Mark, Window};
use super::{BATCH, BEAT, BUSY_PAUSE, Captor, LOOK, PAUSE, Phase, gap};
use crate::absence::review;
use crate::ingest::row_event::{full, signal};
use crate::ports::{Captured, EntryId, Fault, FaultClass, FinishedBy, Opened, Position, Positions, Row, Source, Touch};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::metrics;
use crate::runtime::settings::CapturedEvents;

pub(super) struct Session<'a> {
    captor: &'a Captor,
    source: Box<dyn Source>,
    positions: Arc<dyn Positions>,
    /// The epoch of the bus when the log was opened.
    epoch: Arc<str>,
    window: Window,
    /// The batch that is being published. Nothing is read meanwhile.
    publishing: Work<'a, Published>,
    /// The confirmation under way. Reading and publishing go on meanwhile.
    confirming: Work<'a, Confirming>,
    beating: Work<'a, ()>,
    /// The work that closes a gap.
    closing: Work<'a, ()>,
}

type Work<'a, T> = Option<BoxFuture<'a, Result<T, Fault>>>;

/// A batch that was published.
struct Published {
    last: Option<EntryId>,
    end: Option<Position>,
    rows: usize,
}

/// A step of a confirmation: first the bus is asked, then the position is noted, and only then it is confirmed.
enum Confirming {
    /// The bus had this oldest unfinished entry at the mark.
    Asked(Mark, Option<EntryId>),
    /// This position is noted, because everything up to it was finished.
    Noted(Position, Mark, Option<EntryId>),
}

impl<'a> Session<'a> {
    pub(super) fn new(captor: &'a Captor, opened: Opened, epoch: String) -> Self {
        let (Opened { source, positions, gap }, of) = (opened, epoch.clone());
        let closing = gap.map(|gap| async move { gap::close(captor, gap, &of).await }.boxed());
        let (publishing, confirming, beating) = (None, None, None);
        let (epoch, window) = (epoch.into(), Window::default());
        Self { captor, source, positions, epoch, window, publishing, confirming, beating, closing }
    }

    /// Reads, publishes and confirms until something fails.
    pub(super) async fn run(mut self) -> Result<Infallible, Fault> {
        let (mut looks, mut beats) = (tokio::time::interval(LOOK), tokio::time::interval(BEAT));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Instant::now();
        loop {
            let reads = self.publishing.is_none() && self.window.has_room();
            let captor = self.captor;
            tokio::select! {
                biased;
                _ = looks.tick(), if self.confirming.is_none() => self.ask(),
                _ = beats.tick(), if self.beating.is_none() => self.beating = Some(captor.heartbeat().boxed()),
                confirming = until(&mut self.confirming) => {
                    self.confirming = None;
                    self.confirm(&confirming?);
                }
                beaten = until(&mut self.beating) => {
                    beaten?;
                    self.beating = None;
                }
                closed = until(&mut self.closing) => {
                    closed?;
                    self.closing = None;
                    self.positions.close_gap().await?;
                    captor.monitor.gap(None);
                    info!("carried everything that the gap may have hidden");
                }
                published = until(&mut self.publishing) => {
                    let Published { last, end, rows } = published?;
                    self.publishing = None;
                    captor.monitor.enter(Phase::Running, None);
                    self.window.push(last, end, rows);
                }
                captured = next(&mut *self.source, due), if reads => {
                    let captured = at_hand(captured?, &mut *self.source)?;
                    if captured.iter().map(|part| part.rows.len()).sum::<usize>() < BATCH {
                        due = Instant::now() + PAUSE;
                    }
                    self.publishing = Some(captor.publish(captured).boxed());
                }
            }
        }
    }

    /// Begins to ask the bus what is finished there, or as durable as the rows, of what is published now.
    fn ask(&mut self) {
        if !self.window.is_empty() {
            let (mark, epoch) = (self.window.mark(), Arc::clone(&self.epoch));
            let oldest = self.captor.oldest(epoch);
            self.confirming = Some(async move { Ok(Confirming::Asked(mark, oldest.await?)) }.boxed());
        }
    }

    /// Takes the next step of a confirmation.
    fn confirm(&mut self, step: &Confirming) {
        let (mark, oldest) = match *step {
            Confirming::Asked(mark, oldest) => {
                if let Some(end) = self.window.finished(mark, oldest) {
                    let positions = Arc::clone(&self.positions);
                    let noted = async move { positions.note(end).await.map(|()| Confirming::Noted(end, mark, oldest)) };
                    self.confirming = Some(noted.boxed());
                    return;
                }
                (mark, oldest)
            }
            Confirming::Noted(end, mark, oldest) => {
                self.source.confirm(end);
                failpoint::reached(CrashPoint::Confirmed);
                (mark, oldest)
            }
        };
        self.window.shrink(mark, oldest);
    }
}

/// The result of the work under way; pending for ever if there is none.
async fn until<T>(under_way: &mut Work<'_, T>) -> Result<T, Fault> {
    match under_way {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The next part, not before it is due.
async fn next(source: &mut dyn Source, due: Instant) -> Result<Captured, Fault> {
    tokio::time::sleep_until(due).await;
    source.next().await
}

/// The part together with the following ones that have arrived already: one by one, each would cost a write to the bus.
fn at_hand(first: Captured, source: &mut dyn Source) -> Result<Vec<Captured>, Fault> {
    let mut rows = first.rows.len();
    let mut captured = vec![first];
    while rows < BATCH && captured.len() < BATCH {
        let Some(next) = source.next().now_or_never() else { break };
        let next = next?;
        rows += next.rows.len();
        captured.push(next);
    }
    Ok(captured)
}

impl Captor {
    /// The oldest unfinished entry of the bus; `None` if there is none, or if its entries are as durable as the rows.
    async fn oldest(&self, epoch: Arc<str>) -> Result<Option<EntryId>, Fault> {
        let bus = &*self.ports.bus;
        let oldest = match bus.finished_by() {
            FinishedBy::Merge => None,
            FinishedBy::Acknowledgement => bus.depth().await?.oldest,
        };
        // Queried last: if the epoch has not changed, the bus has finished every entry that it does not hold.
        match bus.epoch().await? == *epoch {
            true => Ok(oldest),
            false => Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost entries")),
        }
    }

    /// Writes a message into the log. A server that takes no writes for a while does not end the session; one on which
    /// the table is not published any more does, and the next opening treats it as a gap.
    async fn heartbeat(&self) -> Result<(), Fault> {
        let beat = self.capture.heartbeat().await;
        let failed = self.monitor.state().fault.is_some();
        match beat {
            Err(fault) if fault.class == FaultClass::Misconfigured => return Err(fault),
            Err(fault) => {
                if !failed {
                    warn!(%fault, "could not write a heartbeat; the server keeps the log of an idle table until it can");
                }
                self.monitor.heartbeat(Some(fault));
            }
            Ok(()) => self.monitor.heartbeat(None),
        }
        Ok(())
    }

    /// Publishes a signal for each row, once the rows are visible: a merge that looked before would take a new row for
    /// one that was deleted again. Waits while the bus is full.
    async fn publish(&self, captured: Vec<Captured>) -> Result<Published, Fault> {
        let started = std::time::Instant::now();
        let changes = captured.iter().filter(|part| part.truncated || !part.rows.is_empty());
        let transactions: BTreeSet<u32> = changes.filter_map(|part| part.transaction).collect();
        if !transactions.is_empty() {
            self.capture.until_visible(&Vec::from_iter(transactions)).await?;
        }
        let (mut touched, mut last, mut rows) = (Vec::new(), None, 0);
        // If the last transaction goes on, the end of the one before it.
        let end = captured.iter().filter_map(|captured| captured.end).next_back();
        for Captured { rows: changed, truncated, at, commit, .. } in captured {
            let at = self.within_bound(at);
            if truncated {
                rows += touched.len();
                last = self.signals(std::mem::take(&mut touched)).await?.or(last);
                last = self.truncated(at, commit).await?.or(last);
            }
            touched.extend(changed.into_iter().map(|(id, touch)| Touched { id, touch, at, commit }));
        }
        rows += touched.len();
        last = self.signals(touched).await?.or(last);
        if last.is_some() {
            failpoint::reached(CrashPoint::Captured);
            metrics::took(metrics::Operation::Capture, started);
        }
        Ok(Published { last, end, rows })
    }

    /// The commit time, unless it lies too far ahead of the clock: then the clock's time.
    fn within_bound(&self, at: Time) -> Time {
        let now = self.ports.clock.now();
        if at.micros() <= now.micros().saturating_add(self.settings.limits.max_ahead_micros) {
            return at;
        }
        metrics::commit_time_replaced();
        now
    }

    async fn signals(&self, touched: Vec<Touched>) -> Result<Option<EntryId>, Fault> {
        let rows = folded(touched);
        let first = |rest: &[Touched]| rest.len().min(BATCH);
        if rows.is_empty() {
            return Ok(None);
        }
        let (mut events, mut last) = (self.events(&rows[..first(&rows)]).await?, None);
        let mut rest = &rows[events.len()..];
        while !rest.is_empty() {
            // The rows of a batch are read while the one before it is published.
            let (published, next) = try_join(self.publish_in_place(events), self.events(&rest[..first(rest)])).await?;
            rest = &rest[next.len()..];
            (events, last) = (next, published.or(last));
        }
        Ok(self.publish_in_place(events).await?.or(last))
    }

    /// Publishes the events, and waits as long as the bus is full.
    async fn publish_in_place(&self, events: Vec<Event>) -> Result<Option<EntryId>, Fault> {
        loop {
            match self.publisher.publish(events.clone()).await {
                Err(fault) if fault.class == FaultClass::Busy => {
                    if self.monitor.state().phase != Phase::BusFull {
                        warn!(%fault, "the bus is full; capture waits in place");
                    }
                    self.monitor.enter(Phase::BusFull, Some(fault));
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                published => return Ok(published?.last().copied()),
            }
        }
    }

    /// Thin signals, or with the rows as they are now: then for the first of the rows, as many as are read together.
    async fn events(&self, rows: &[Touched]) -> Result<Vec<Event>, Fault> {
        let targets = self.ports.signalled();
        let thin = rows.iter().map(|row| signal(row.id, row.touch, row.at, &row.commit.to_string(), &targets));
        if self.settings.captured_events == CapturedEvents::Thin {
            return Ok(thin.collect());
        }
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let read = self.ports.records.rows_of(&ids).await?;
        let with_row = |(event, row): (Event, Option<Row>)| full(event, row.and_then(|row| row.state).as_deref());
        Ok(thin.zip(read).map(with_row).collect())
    }

    /// Signals the chunks whose deletion by a TRUNCATE is approved. Above the limit none is: their notes are durable, and
    /// neither bus nor slot waits for them.
    async fn truncated(&self, at: Time, commit: Position) -> Result<Option<EntryId>, Fault> {
        let approved = review::truncated(&self.ports, self.settings.max_deletes, self.ports.clock.now()).await?;
        let mut last = None;
        for ids in approved.chunks(BATCH) {
            let gone = ids.iter().map(|id| Touched { id: *id, touch: Touch::Deleted, at, commit }).collect();
            last = self.signals(gone).await?.or(last);
        }
        Ok(last)
    }
}
