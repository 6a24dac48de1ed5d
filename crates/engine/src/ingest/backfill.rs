//! Backfill: publishes a signal for each row that was written while no process captured changes; the signals take the
//! path of all events.
//!
//! A row counts as carried if its record shows that it was last seen as it is, so a backfill that is started again
//! continues where the previous one ended. Nothing newer is overwritten: the merge reads the row as it is then, and the
//! content of a row that was never carried is as old as its `updated_at`.

use chunk_sync_model::{Event, Target};
use uuid::Uuid;

use crate::absence::review::note;
use crate::ingest::publisher::Publisher;
use crate::ingest::row_event::signal;
use crate::pipeline::apply::external_change::digest;
use crate::ports::{EntryId, Fault, Ports, Row, RowPage, Touch};
use crate::runtime::clock::Clock;
use crate::runtime::rate_limit::Pace;

/// The number of rows that are read, and of events that are published, at once.
const BATCH: usize = 256;

/// The result of a backfill so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// The number of rows read.
    pub rows: u64,
    /// The number of rows that were not carried as they are.
    pub published: u64,
    /// The number of living chunks without a row: each is noted.
    pub absent: u64,
    /// The entry of the last signal.
    pub last: Option<EntryId>,
}

/// Publishes a signal for every row that was not carried as it is, at most `rate` per second, and notes the living
/// chunks that have no row. Calls `progress` with the result so far.
///
/// # Errors
/// The fault of the system of record, also if it takes no writes now, or of the bus; signals that were published before it
/// stay on the bus.
pub async fn backfill(
    ports: &Ports,
    publisher: &Publisher,
    rate: Option<u32>,
    progress: &(dyn Fn(Backfilled) + Send + Sync),
) -> Result<Backfilled, Fault> {
    carry(ports, publisher, rate, false, progress).await
}

/// The same after a gap in capture: a deletion may have been missed, so the chunks without a row become candidates for
/// deletion.
pub(crate) async fn backfill_after_gap(ports: &Ports, publisher: &Publisher) -> Result<Backfilled, Fault> {
    carry(ports, publisher, None, true, &|_| {}).await
}

async fn carry(
    ports: &Ports,
    publisher: &Publisher,
    rate: Option<u32>,
    missed: bool,
    progress: &(dyn Fn(Backfilled) + Send + Sync),
) -> Result<Backfilled, Fault> {
    let (mut done, mut after, mut pace) = (Backfilled::default(), None, Pace::new(rate));
    ports.records.takes_writes().await?;
    // The name is unique, so that no signal is taken for a repetition of an earlier backfill.
    let (place, targets) = (format!("backfill {}", Uuid::new_v4()), ports.signalled());
    loop {
        let RowPage { rows: page, is_last } = ports.records.rows(after, BATCH).await?;
        after = page.last().map(|row| row.id).or(after);
        done.rows += page.iter().filter(|row| row.state.is_some()).count() as u64;
        let events: Vec<_> = page.iter().filter_map(|row| uncarried(row, &place, &targets, &ports.clock)).collect();
        let absent: Vec<Uuid> = page.iter().filter(|row| row.is_absent()).map(|row| row.id).collect();
        note(ports, &absent, missed).await?;
        done.absent += absent.len() as u64;
        done.published += events.len() as u64;
        pace.steps(events.len()).await;
        done.last = publisher.publish_when_there_is_room(events).await?.last().copied().or(done.last);
        progress(done);
        if is_last {
            return Ok(done);
        }
    }
}

fn uncarried(row: &Row, place: &str, targets: &[Target], clock: &Clock) -> Option<Event> {
    let state = row.state.as_deref();
    let (touch, at) = match (state, row.lives) {
        (Some(state), None) => (Touch::Inserted, state.chunk.metadata.updated_at),
        (Some(state), Some(_)) if row.seen != digest(Some(state)) => (Touch::Updated, clock.now()),
        _ => return None,
    };
    Some(signal(row.id, touch, at, place, targets))
}
