//! How many entries the bus holds, and the wait for room.

use std::sync::PoisonError;
use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use tokio::time::{Instant, timeout_at};

use super::{PUBLISH, PostgresBus};

/// How long a publisher waits for room before it gets [`FaultClass::Busy`].
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// How often a waiting publisher counts the entries, and how long other publishers use a count.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

const ROOM_KNOWN: Duration = Duration::from_millis(250);
const COUNT: &str = "SELECT count(*) FROM (SELECT FROM chunk_sync.bus LIMIT $1) AS entries";

/// The last count of the entries, its time, and how many entries this process has added since.
#[derive(Default)]
pub(super) struct Backlog {
    counted: u64,
    pub(super) added: u64,
    at: Option<Instant>,
}

impl PostgresBus {
    /// Waits until the bus holds fewer than `max_backlog` unfinished entries; [`FaultClass::Busy`] after [`ROOM_WAIT`].
    pub(super) async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            let finished = self.records.handed.finished.notified();
            let backlog = match self.known_backlog() {
                Some(known) if known < self.max_backlog => return Ok(()),
                _ => self.count_backlog().await?,
            };
            if backlog < self.max_backlog {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "the bus is full: it holds {backlog} unfinished events, its limit is {}; start `chunk-sync run`, \
                     or wait until it has synced some",
                    self.max_backlog
                );
                return Err(Fault::new(FaultClass::Busy, PUBLISH, message));
            }
            // The notification is the common case; the pause covers entries that another process finishes.
            let _ = timeout_at(deadline.min(Instant::now() + ROOM_PAUSE), finished).await;
        }
    }

    fn known_backlog(&self) -> Option<u64> {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.at.filter(|at| at.elapsed() < ROOM_KNOWN).map(|_| backlog.counted + backlog.added)
    }

    /// Counts the entries, up to `max_backlog`.
    async fn count_backlog(&self) -> Result<u64, Fault> {
        let bound = i64::try_from(self.max_backlog).unwrap_or(i64::MAX);
        let rows = self.query(COUNT, &[&bound], PUBLISH).await?;
        let counted = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0));
        let counted = counted.map_err(|error| self.fault(error.into(), PUBLISH))?.unsigned_abs();
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        *backlog = Backlog { counted, added: 0, at: Some(Instant::now()) };
        Ok(counted)
    }
}
