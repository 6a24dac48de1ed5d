//! Waits until every connection sees what the log has handed out.
//!
//! The server decodes a commit as soon as it is flushed. Other connections see it a moment later and, with synchronous
//! replication, only when the standbys have confirmed it (source: PostgreSQL, `RecordTransactionCommit`).

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use tokio::time::{Instant, sleep};

use super::{CONTEXT, PostgresCapture};

/// The first pause between two questions; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// After this time the log is opened again: the server may be another one by then.
const LIMIT: Duration = Duration::from_secs(10);

/// The first of the transactions `$1` that a new snapshot does not see. The log has the lower 32 bits of a number; the
/// upper ones are those that bring it closest to the next number of the server.
const INVISIBLE: &str = "SELECT number FROM unnest($1::bigint[]) AS given (number),
        (SELECT pg_current_snapshot() AS now) AS snapshot,
        LATERAL (SELECT pg_snapshot_xmax(now)::text::bigint AS next) AS last,
        LATERAL (SELECT (number - next % 4294967296 + 6442450944) % 4294967296 - 2147483648 AS distance) AS from_last
    WHERE NOT pg_visible_in_snapshot(greatest(next + distance, 3)::text::xid8, now)
    LIMIT 1";

impl PostgresCapture {
    pub(super) async fn wait_until_visible(&self, transactions: &[u32]) -> Result<(), Fault> {
        let numbers: Vec<i64> = transactions.iter().map(|number| i64::from(*number)).collect();
        let (began, mut pause) = (Instant::now(), PAUSE);
        while let Some(number) = self.value::<i64>(INVISIBLE, &[&numbers]).await? {
            if began.elapsed() > LIMIT {
                let message = format!(
                    "transaction {number} is committed, but no connection sees it yet: with synchronous replication a \
                     standby has not confirmed it (synchronous_standby_names, pg_stat_replication); its changes are \
                     captured once it is visible"
                );
                return Err(Fault::new(FaultClass::Timeout, CONTEXT, message));
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        Ok(())
    }
}
