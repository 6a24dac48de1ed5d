//! Backfill: what was written into rows while nobody captured becomes signals on the bus, and goes the way of all events.
//!
//! A row counts as carried when its record says that it was last seen as it is, so whoever begins again goes on where the
//! last one ended. Nothing newer is overwritten: the merge looks at the row as it stands then, and what a row says that was
//! never carried is as old as its `updated_at`.

use chunk_sync_model::{Event, Target};
use uuid::Uuid;

use crate::ingest::publisher::Publisher;
use crate::ingest::row_event::signal;
use crate::pipeline::apply::external_change::digest;
use crate::ports::Ports;
use crate::ports::{EntryId, Fault, Row, Touch};
use crate::runtime::clock;
use crate::runtime::rate_limit::Pace;

/// Rows read and events published at once.
const BATCH: usize = 256;

/// What a backfill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Rows looked at.
    pub rows: u64,
    /// Those that nobody had carried as they are, gone ones among them.
    pub published: u64,
    /// The last one's entry.
    pub last: Option<EntryId>,
}

/// Publishes a signal for every row that nobody has carried as it is, or that is gone, at most `rate` a second. `progress` is told what has been done so far.
///
/// # Errors
/// What the system of record or the bus says; what was published is.
pub async fn backfill(
    ports: &Ports,
    publisher: &Publisher,
    rate: Option<u32>,
    progress: &(dyn Fn(Backfilled) + Send + Sync),
) -> Result<Backfilled, Fault> {
    let (mut done, mut after, mut pace) = (Backfilled::default(), None, Pace::new(rate));
    // Unlike any other backfill, so that no signal is taken for a repetition of an earlier one.
    let (place, targets) = (format!("backfill {}", Uuid::new_v4()), ports.signalled());
    loop {
        let page = ports.records.rows(after, BATCH).await?;
        let ended = page.len() < BATCH;
        after = page.last().map(|row: &Row| row.id).or(after);
        done.rows += page.iter().filter(|row| row.state.is_some()).count() as u64;
        let events: Vec<_> = page.iter().filter_map(|row| uncarried(row, &place, &targets)).collect();
        done.published += events.len() as u64;
        pace.steps(events.len()).await;
        done.last = publisher.publish_when_there_is_room(events).await?.last().copied().or(done.last);
        progress(done);
        if ended {
            return Ok(done);
        }
    }
}

fn uncarried(row: &Row, place: &str, targets: &[Target]) -> Option<Event> {
    let state = row.state.as_deref();
    let (touch, at) = match (state, row.lives) {
        (Some(state), None) => (Touch::Inserted, state.chunk.metadata.updated_at),
        (Some(state), Some(_)) if row.seen != digest(Some(state)) => (Touch::Updated, clock::now()),
        (None, Some(true)) => (Touch::Deleted, clock::now()),
        _ => return None,
    };
    Some(signal(row.id, touch, state, at, place, targets))
}
