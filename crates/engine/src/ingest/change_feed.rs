//! Capture: what others change in the system of record becomes events on the bus, and goes the way of all events.
//!
//! A captured event is a signal. Its chunk is the row as it stands when it is published; the merge looks at the row again,
//! under its lock, and compares it with what was last written or seen there. So two changes of one row in quick succession
//! may be carried as one, and none is carried twice.
//!
//! # What a crash does
//! A position is confirmed only when every entry published up to it is finished on the bus: held by all stores, or owed
//! with the row. Where the bus lies in the database of the rows ([`FinishedBy::Merge`]), it is confirmed as soon as the
//! entries are committed there: they are as durable as the rows that they are about, and a server that lost them has lost
//! its slot, or is another server, which opening the log notices as a gap. A crash before the confirmation, or a bus that
//! lost what it had (its incarnation is another), begins again at the last position confirmed; what is carried twice changes
//! nothing. Where changes may have been missed altogether, because the log
//! was not kept for us, the rows are compared with what was last seen of them, beside the reading that goes on; a crash
//! before that is finished on the bus has the next session begin it anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_model::{Event, Time};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use crate::ingest::backfill::{Backfilled, backfill};
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

/// Rows read and events published at once.
const BATCH: usize = 256;

/// Batches published and not confirmed, at most.
const OPEN: usize = 4096;

/// How often it is looked what can be confirmed.
const LOOK: Duration = Duration::from_millis(200);

/// How soon a log that another connection still reads is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// How often an idle log is written to.
const BEAT: Duration = Duration::from_secs(10);

/// The running capture.
pub struct Capturing {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Capturing {
    /// Captures whenever this process works the stream.
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

    /// Ends it: what is not confirmed is captured again by the next.
    pub async fn stop(self) {
        self.stopper.stop();
        // It ended, or it panicked and said so.
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

/// What has been published and is not confirmed yet.
#[derive(Default)]
struct Open {
    /// The last entry of each batch of transactions, and where those end.
    ends: VecDeque<(EntryId, Position)>,
    last: Option<EntryId>,
}

impl Captor {
    async fn run(self, stop: Stop) {
        while stop.during(self.leadership.begins()).await.is_some() {
            if stop.during(self.leadership.during(self.sessions())).await.is_none() {
                return;
            }
            info!("this process does not work the stream any more: the capture has ended");
        }
    }

    /// One session after the other.
    async fn sessions(&self) -> std::convert::Infallible {
        let (mut pauses, mut busy) = (Pauses::new(&self.settings), false);
        loop {
            let began = tokio::time::Instant::now();
            match self.session().await {
                Err(fault) if fault.class == FaultClass::Busy => {
                    if !std::mem::replace(&mut busy, true) {
                        info!(%fault, "the log is still read by the process that had the lease before: waiting");
                    }
                }
                Err(fault) => {
                    busy = false;
                    warn!(%fault, "the capture was interrupted: beginning again where it was confirmed");
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
        let incarnation = self.ports.bus.incarnation().await?;
        let Opened { mut source, gap } = self.capture.open().await?;
        info!("capturing what others write into the system of record");
        let mut catching_up = gap.map(|gap| Box::pin(self.catch_up(gap, &incarnation)));
        let (mut open, mut looks, mut beats) =
            (Open::default(), tokio::time::interval(LOOK), tokio::time::interval(BEAT));
        loop {
            tokio::select! {
                biased;
                _ = looks.tick() => self.confirm(&mut *source, &mut open, &incarnation).await?,
                _ = beats.tick() => {
                    metrics::capture_lag(self.capture.lag().await?);
                    self.capture.beat().await?;
                }
                caught_up = until(&mut catching_up), if catching_up.is_some() => {
                    let done = caught_up?;
                    catching_up = None;
                    source.close_gap().await?;
                    warn!(rows = done.rows, carried = done.published, "nothing is missing any more; `verify` shows it");
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
                    // Where nothing was published it is finished like the oldest entry there could be.
                    open.ends.push_back((open.last.unwrap_or_default(), end));
                }
            }
        }
    }

    /// Carries whatever a gap may have hidden: rows that are not as they were last seen, and those that are gone. Begun anew
    /// by the next session where this one ends first.
    async fn catch_up(&self, gap: Gap, incarnation: &str) -> Result<Backfilled, Fault> {
        metrics::gap(gap);
        warn!(%gap, "changes may have been missed: carrying every row that is not as it was last seen");
        let done = backfill(&self.ports, &self.publisher, None, &|_| {}).await?;
        if let Some(last) = done.last {
            until_finished(&*self.ports.bus, last, &|_| {}).await?;
        }
        if self.ports.bus.incarnation().await? != incarnation {
            return Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost what it had"));
        }
        Ok(done)
    }

    /// Confirms what is finished on the bus, or as durable there as the rows.
    async fn confirm(&self, source: &mut dyn Source, open: &mut Open, incarnation: &str) -> Result<(), Fault> {
        if open.ends.is_empty() {
            return Ok(());
        }
        let oldest = match self.ports.bus.finished_by() {
            FinishedBy::Merge => None,
            FinishedBy::Acknowledgement => self.ports.bus.depth().await?.oldest,
        };
        // Asked last: where it is still the same, what the bus does not have it has finished.
        if self.ports.bus.incarnation().await? != incarnation {
            return Err(Fault::new(FaultClass::Unavailable, "capture", "the bus may have lost what it had"));
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

    /// Publishes the rows of transactions as they stand; the last entry.
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
        Ok(rows.iter().zip(standing).map(event).collect())
    }

    /// The chunks that live in their records and have no row any more.
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

/// The end of what is under way; whoever asks has seen that something is.
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
    /// Where that ends.
    end: Position,
}

/// The transaction together with those behind it that have arrived already: one by one they would each cost a look at
/// their rows and a write to the bus.
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

/// Each row once, where it was last touched: what it says is read there anyway.
fn folded(rows: Vec<Touched>) -> Vec<Touched> {
    let mut last: BTreeMap<Uuid, (usize, Touched)> = BTreeMap::new();
    for (i, mut row) in rows.into_iter().enumerate() {
        let first = last.get(&row.id).map(|(_, first)| first.touch);
        // A row that came and changed came.
        if first == Some(Touch::Inserted) && row.touch == Touch::Updated {
            row.touch = Touch::Inserted;
        }
        last.insert(row.id, (i, row));
    }
    let mut rows: Vec<_> = last.into_values().collect();
    rows.sort_unstable_by_key(|(i, _)| *i);
    rows.into_iter().map(|(_, row)| row).collect()
}
