//! The list of chunks whose writes may arrive late, see [`WatchList`].

use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, WatchList, Watched};
use chunk_sync_model::Target;
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::database::Durability;
use super::rows::Rows;
use super::values::limit_of;

const WATCH_LIST: &str = "embedded rows: watch list";

const WATCH: &str = "INSERT INTO watch (target, id, until) VALUES (?1, ?2, ?3)
    ON CONFLICT (target, id) DO UPDATE SET until = max(until, excluded.until)";

/// WHERE true: SQLite could else take ON CONFLICT for the condition of a join.
const WATCH_OUTBOX: &str = "INSERT INTO watch (target, id, until) SELECT target, id, ?1 FROM outbox WHERE true
    ON CONFLICT (target, id) DO UPDATE SET until = max(until, excluded.until)";

fn in_micros(keep: Duration) -> i64 {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_microsecond().saturating_add(keep)
}

#[async_trait]
impl WatchList for Rows {
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault> {
        let (watched, until) = (watched.to_vec(), in_micros(keep));
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(WATCH)?;
            for watched in &watched {
                statement.execute(params![watched.target.as_str(), watched.id, until])?;
            }
            Ok(())
        };
        self.database.write(WATCH_LIST, Durability::Synced, work).await
    }

    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault> {
        let until = in_micros(keep);
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.prepare_cached(WATCH_OUTBOX)?.execute([until]).map(drop)?)
        };
        self.database.write(WATCH_LIST, Durability::Synced, work).await
    }

    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let sql = "SELECT id FROM watch WHERE target = ?1 AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3";
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(sql)?;
            let ids = statement.query_map(params![target.as_str(), after, limit_of(limit)], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        };
        self.database.read(WATCH_LIST, work).await
    }

    async fn unwatch(&self) -> Result<u64, Fault> {
        let now = jiff::Timestamp::now().as_microsecond();
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.execute("DELETE FROM watch WHERE until < ?1", [now])? as u64)
        };
        self.database.write(WATCH_LIST, Durability::Lazy, work).await
    }
}
