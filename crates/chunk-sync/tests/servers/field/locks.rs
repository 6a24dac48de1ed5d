//! How long the service holds locks on rows of the application, sampled on the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::environment::Environment;

/// The pause between two samples.
const PAUSE: Duration = Duration::from_millis(1);

/// The transactions of the service that hold the lock on the table that a lock of a row implies: process and start. A
/// transaction that only waits for its first lock of a row is counted as well.
const HELD: &str = "SELECT a.pid, a.xact_start::text FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'unified.chunks'::regclass AND l.granted AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
        AND a.usename = 'chunk_sync_field' AND a.xact_start IS NOT NULL";

/// A sampler of locks.
pub(crate) struct Locks {
    stop: watch::Sender<bool>,
    sampling: JoinHandle<Vec<Duration>>,
}

impl Locks {
    pub(crate) fn sample(environment: &Arc<Environment>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, sampling: tokio::spawn(sample(environment.database.clone(), stopped)) }
    }

    /// The durations of all transactions that were seen, in ascending order.
    pub(crate) async fn stop(self) -> Vec<Duration> {
        self.stop.send_replace(true);
        let mut held = self.sampling.await.unwrap();
        held.sort_unstable();
        held
    }
}

/// The duration that so many of a thousand do not exceed.
pub(crate) fn percentile(held: &[Duration], of_thousand: usize) -> Duration {
    held.get((held.len() * of_thousand / 1_000).min(held.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn sample(database: String, stopped: watch::Receiver<bool>) -> Vec<Duration> {
    let (client, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    tokio::spawn(connection);
    let statement = client.prepare(HELD).await.unwrap();
    let mut seen: BTreeMap<(i32, String), (Instant, Instant)> = BTreeMap::new();
    while !*stopped.borrow() {
        let now = Instant::now();
        for row in client.query(&statement, &[]).await.unwrap() {
            let key = (row.get(0), row.get(1));
            seen.entry(key).and_modify(|(_, last)| *last = now).or_insert((now, now));
        }
        tokio::time::sleep(PAUSE).await;
    }
    // A lock was held for up to a pause before it was seen first, and after it was seen last.
    seen.into_values().map(|(first, last)| last - first + 2 * PAUSE).collect()
}
