//! Capture: changes that other programs make in the system of record become events on the bus and take the path of all
//! events.
//!
//! A captured event is a signal. Its chunk is the row as it is when the event is published; the merge reads the row
//! again, under its lock, and compares it with what was last written or seen there. Two changes of one row in quick
//! succession may therefore be carried as one, and none is carried twice.
//!
//! # What a crash does
//! A position is confirmed only when every entry published up to it is finished on the bus: held by all stores, or in
//! the outbox with the row. If the bus is in the database of the rows ([`FinishedBy::Merge`]), the position is
//! confirmed as soon as the entries are committed there: they are as durable as the rows that they are about, and a
//! server that lost them has lost its slot, or is another server, which is detected as a gap when the log is opened.
//! After a crash before the confirmation, or if the bus lost its entries (its epoch changed), capture begins again at
//! the last confirmed position; what is carried twice changes nothing. If changes may have been missed altogether,
//! because the server did not keep the log, the rows are compared with what was last seen of them, while reading goes
//! on; after a crash before the signals of that comparison are finished on the bus, the next session starts the
//! comparison again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::{Event, Time};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::ingest::backfill::{Backfilled, backfill_after_gap};
use crate::ingest::publisher::Publisher;
use crate::ingest::row_event::signal;
use crate::ports::{
    Capture, Captured, EntryId, Fault, FaultClass, FinishedBy, Gap, Opened, Ports, Position, Source, Touch,
};
use crate::runtime::failpoint::{self, CrashPoint};
use crate::runtime::lease::Leadership;
use crate::runtime::metrics;
use crate::runtime::progress::{Stop, Stopper};
use crate::runtime::retry::Pauses;
use crate::runtime::settings::WorkerSettings;
use crate::verify::repair::until_finished;

/// The number of rows that are read, and of events that are published, at once.
const BATCH: usize = 256;

/// The maximal number of batches that are published and not confirmed.
const OPEN: usize = 4096;

/// The interval of checks for what can be confirmed.
const LOOK: Duration = Duration::from_millis(200);

/// The pause before a log that another connection still reads is opened again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// The interval of writes to an idle log.
const BEAT: Duration = Duration::from_secs(10);

/// The running capture.
pub struct Capturing {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Capturing {
    /// Starts to capture whenever this process works the stream.
    #[must_use]
    pub fn start(
        capture: Arc<dyn Capture>,
        ports: Ports,
        publisher: Publisher,
        settings: WorkerSettings,
        leadership: Leadership,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        let captor = Captor { capture, ports, publisher, settings, leadership };
        Self { stopper, task: tokio::spawn(captor.run(stop)) }
    }

    /// Stops the capture: the next one captures again what is not confirmed.
    pub async fn stop(self) {
        self.stopper.stop();
        // The task ended, or it panicked and the panic was reported.
        let _ = self.task.await;
    }
}

struct Captor {
    capture: Arc<dyn Capture>,
    ports: Ports,
    publisher: Publisher,
    settings: WorkerSettings,
    leadership: Leadership,
}

/// What was published and is not confirmed yet.
#[derive(Default)]
struct Open {
    /// The last entry of each batch of transactions, and the position at which the batch ends.
    ends: VecDeque<(EntryId, Position)>,
    last: Option<EntryId>,
}

impl Captor {
    async fn run(self, stop: Stop) {
        while stop.during(self.leadership.begins()).await.is_some() {
            if stop.during(self.leadership.during(self.sessions())).await.is_none() {
                return;
            }
            info!("this process does not work the stream any more; stopped capturing");
        }
    }

    /// Runs one session after the other.
    async fn sessions(&self) -> std::convert::Infallible {
        let (mut pauses, mut busy) = (Pauses::new(&self.settings), false);
        loop {
            let began = tokio::time::Instant::now();
            match self.session().await {
                Err(fault) if fault.class == FaultClass::Busy => {
                    if !std::mem::replace(&mut busy, true) {
                        info!(%fault, "the previous holder of the lease still reads the log; waiting");
                    }
                }
                Err(fault) => {
                    busy = false;
                    warn!(%fault, "capture failed; restarting at the confirmed position");
                }
                Ok(never) => match never {},
            }
            if began.elapsed() > self.settings.retry_max || busy {
                pauses = Pauses::new(&self.settings);
            }
            let pause = if busy { BUSY_PAUSE } else { pauses.next() };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the log until something fails.
    async fn session(&self) -> Result<std::convert::Infallible, Fault> {
        let epoch = self.ports.bus.epoch().await?;
        let Opened { mut source, gap } = self.capture.open().await?;
        info!("capturing changes in the system of record");
        let mut catching_up = gap.map(|gap| Box::pin(self.catch_up(gap, &epoch)));
        let (mut open, mut snapshots, mut beats) =
            (Open::default(), tokio::time::interval(LOOK), tokio::time::interval(BEAT));
        loop {
            tokio::select! {
                biased;
                _ = snapshots.tick() => self.confirm(&mut *source, &mut open, &epoch).await?,
                _ = beats.tick() => {
                    metrics::capture_lag(self.capture.lag().await?);
                    self.capture.heartbeat().await?;
                }
                caught_up = until(&mut catching_up), if catching_up.is_some() => {
                    let done = caught_up?;
                    catching_up = None;
                    source.close_gap().await?;
                    warn!(rows = done.rows, carried = done.published, "carried everything that the gap may have hidden");
                }
                captured = source.next(), if open.ends.len() < OPEN => {
                    let started = std::time::Instant::now();
                    let captured = at_hand(captured?, &mut *source)?;
                    let end = captured.last().map(|captured| captured.end).unwrap_or_default();
                    if let Some(last) = self.publish(captured).await? {
                        open.last = Some(last);
                        failpoint::reached(CrashPoint::Captured);
                        metrics::took(metrics::Operation::Capture, started);
                    }
                    // If nothing was published yet, the batch counts as finished: its id is below every other.
                    open.ends.push_back((open.last.unwrap_or_default(), end));
                }
            }
        }
    }

    /// Carries whatever a gap may have hidden: rows that are not as they were last seen, and deleted rows. If this
    /// session ends first, the next one starts again.
    async fn catch_up(&self, gap: Gap, epoch: &str) -> Result<Backfilled, Fault> {
        metrics::gap(gap);
        warn!(%gap, "changes may have been missed; carrying rows that differ from what was last seen");
        let done = backfill_after_gap(&self.ports, &self.publisher).await?;
        if let Some(last) = done.last {
            until_finished(&*self.ports.bus, last, &|_| {}).await?;
        }
        if self.ports.bus.epoch().await? != epoch {
            return Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost entries"));
        }
        Ok(done)
    }

    /// Confirms what is finished on the bus, or as durable there as the rows.
    async fn confirm(&self, source: &mut dyn Source, open: &mut Open, epoch: &str) -> Result<(), Fault> {
        if open.ends.is_empty() {
            return Ok(());
        }
        let oldest = match self.ports.bus.finished_by() {
            FinishedBy::Merge => None,
            FinishedBy::Acknowledgement => self.ports.bus.depth().await?.oldest,
        };
        // Queried last: if the epoch has not changed, the bus has finished every entry that it does not hold.
        if self.ports.bus.epoch().await? != epoch {
            return Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost entries"));
        }
        let finished = |last: &EntryId| oldest.is_none_or(|oldest| *last < oldest);
        let newest = open.ends.iter().take_while(|(last, _)| finished(last)).last();
        if let Some((_, end)) = newest {
            source.note(*end).await?;
        }
        while let Some((_, end)) = open.ends.pop_front_if(|(last, _)| finished(last)) {
            source.confirm(end);
            failpoint::reached(CrashPoint::Confirmed);
        }
        if open.ends.is_empty() {
            open.last = None;
        }
        Ok(())
    }

    /// Publishes the rows of transactions as they are now; returns the last entry.
    async fn publish(&self, captured: Vec<Captured>) -> Result<Option<EntryId>, Fault> {
        let mut rows = Vec::new();
        for Captured { rows: touched, truncated, at, end } in captured {
            let gone = if truncated { self.gone().await? } else { Vec::new() };
            let touched = gone.into_iter().map(|id| (id, Touch::Deleted)).chain(touched);
            rows.extend(touched.map(|(id, touch)| Touched { id, touch, at, end }));
        }
        let mut last = None;
        for rows in folded(rows).chunks(BATCH) {
            last = self.publisher.publish(self.events(rows).await?).await?.last().copied().or(last);
        }
        Ok(last)
    }

    async fn events(&self, rows: &[Touched]) -> Result<Vec<Event>, Fault> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let (standing, targets) = (self.ports.records.rows_of(&ids).await?, self.ports.signalled());
        let event = |(touched, row): (&Touched, Option<crate::ports::Row>)| {
            let state = row.and_then(|row| row.state);
            signal(touched.id, touched.touch, state.as_deref(), touched.at, &touched.end.to_string(), &targets)
        };
        // An inserted or updated row that is absent was deleted since, which is captured too, or something hides it.
        let shows = |(touched, row): &(&Touched, Option<crate::ports::Row>)| {
            touched.touch == Touch::Deleted || row.as_ref().is_some_and(|row| row.state.is_some())
        };
        Ok(rows.iter().zip(standing).filter(shows).map(event).collect())
    }

    /// The chunks that exist according to their records and have no row any more.
    async fn gone(&self) -> Result<Vec<Uuid>, Fault> {
        let (mut gone, mut after) = (Vec::new(), None);
        loop {
            let page = self.ports.records.rows(after, BATCH).await?;
            let ended = page.len() < BATCH;
            after = page.last().map(|row| row.id).or(after);
            gone.extend(page.iter().filter(|row| row.lives == Some(true) && row.state.is_none()).map(|row| row.id));
            if ended {
                return Ok(gone);
            }
        }
    }
}

/// The result of the work under way; pending for ever if there is none, so the caller checks first.
async fn until<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// One row of a transaction.
#[derive(Clone, Copy)]
struct Touched {
    id: Uuid,
    touch: Touch,
    /// When its transaction committed.
    at: Time,
    /// The position at which the transaction ends.
    end: Position,
}

/// The transaction together with the following ones that have arrived already: one by one, each would cost a query of
/// its rows and a write to the bus.
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

/// Each row once, in the order of the last changes: the content is read from the table anyway.
fn folded(rows: Vec<Touched>) -> Vec<Touched> {
    let mut last: BTreeMap<Uuid, (usize, Touched)> = BTreeMap::new();
    for (i, mut row) in rows.into_iter().enumerate() {
        let first = last.get(&row.id).map(|(_, first)| first.touch);
        // A row that was inserted and then updated counts as inserted.
        if first == Some(Touch::Inserted) && row.touch == Touch::Updated {
            row.touch = Touch::Inserted;
        }
        last.insert(row.id, (i, row));
    }
    let mut rows: Vec<_> = last.into_values().collect();
    rows.sort_unstable_by_key(|(i, _)| *i);
    rows.into_iter().map(|(_, row)| row).collect()
}
