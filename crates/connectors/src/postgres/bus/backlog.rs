//! What the bus holds, and the wait for room.

use std::sync::PoisonError;
use std::time::Duration;

use chunk_sync_engine::ports::Fault;
use tokio::time::{Instant, timeout_at};

use super::{PUBLISH, PostgresBus};
use crate::backlog::Backlog;

/// How long a publisher waits for room before it gets [`Busy`](chunk_sync_engine::ports::FaultClass::Busy).
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// How often a waiting publisher counts the entries, and how long other publishers use a count.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

const ROOM_KNOWN: Duration = Duration::from_millis(250);

/// The bytes are added up only if the table with everything that belongs to it has more than the bound.
const COUNT: &str = "SELECT (SELECT count(*) FROM (SELECT FROM chunk_sync.bus LIMIT $1) AS entries), \
    CASE WHEN pg_table_size('chunk_sync.bus') <= $2::bigint THEN 0 \
        ELSE (SELECT coalesce(sum(pg_column_size(fields)), 0)::bigint FROM chunk_sync.bus) END";

/// What the bus held when it was last counted, and what this process has added since.
#[derive(Default)]
pub(super) struct Known {
    held: Backlog,
    at: Option<Instant>,
}

impl Known {
    /// Counts entries that were added.
    pub(super) fn add(&mut self, entries: usize, bytes: usize) {
        self.held.entries += entries as u64;
        self.held.bytes += bytes as u64;
    }
}

impl PostgresBus {
    /// Waits until the bus holds less than `max_backlog`; `Busy` after [`ROOM_WAIT`].
    pub(super) async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            let finished = self.records.handed.finished.notified();
            let backlog = match self.known_backlog() {
                Some(known) if self.max_backlog.has_room(known) => return Ok(()),
                _ => self.count_backlog().await?,
            };
            if self.max_backlog.has_room(backlog) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.max_backlog.busy(backlog, PUBLISH));
            }
            // The notification is the common case; the pause covers entries that another process finishes.
            let _ = timeout_at(deadline.min(Instant::now() + ROOM_PAUSE), finished).await;
        }
    }

    fn known_backlog(&self) -> Option<Backlog> {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.at.filter(|at| at.elapsed() < ROOM_KNOWN).map(|_| backlog.held)
    }

    /// Counts the entries, up to `max_backlog`.
    async fn count_backlog(&self) -> Result<Backlog, Fault> {
        let signed = |bound| i64::try_from(bound).unwrap_or(i64::MAX);
        let (entries, bytes) = (signed(self.max_backlog.entries), signed(self.max_backlog.bytes));
        let rows = self.query(COUNT, &[&entries, &bytes], PUBLISH).await?;
        let number = |column| {
            let number = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column));
            number.map(i64::unsigned_abs).map_err(|error| self.fault(error.into(), PUBLISH))
        };
        let held = Backlog { entries: number(0)?, bytes: number(1)? };
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        *backlog = Known { held, at: Some(Instant::now()) };
        Ok(held)
    }
}
