//! Backfill: rows that were there before anybody captured become signals on the bus, and go the way of all events.
//!
//! A row counts as carried when it has a record, so whoever begins again goes on where the last one ended. Nothing newer is
//! overwritten: the merge looks at the row as it stands then, and what it says is as old as its `updated_at`.

use uuid::Uuid;

use crate::pace::Pace;
use crate::ports::{Fault, Row, Touch};
use crate::publish::Publisher;
use crate::service::Ports;
use crate::signal::signal;

/// Rows read and events published at once.
const BATCH: usize = 256;

/// What a backfill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Rows looked at.
    pub rows: u64,
    /// Those among them that nobody had carried yet.
    pub published: u64,
}

/// Publishes a signal for every row without a record, at most `rate` a second. `progress` is told what has been done so far.
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
    loop {
        let page = ports.records.rows(after, BATCH).await?;
        let ended = page.len() < BATCH;
        after = page.last().map(|row: &Row| row.id).or(after);
        done.rows += page.iter().filter(|row| row.state.is_some()).count() as u64;
        let events: Vec<_> = page.iter().filter_map(unknown).collect();
        done.published += events.len() as u64;
        pace.steps(events.len()).await;
        publisher.publish_when_there_is_room(events).await?;
        progress(done);
        if ended {
            return Ok(done);
        }
    }
}

fn unknown(row: &Row) -> Option<chunk_sync_model::Event> {
    let state = row.state.as_deref().filter(|_| row.lives.is_none())?;
    let id: Uuid = row.id;
    Some(signal(id, Touch::Inserted, Some(state), state.chunk.metadata.updated_at, "backfill"))
}
