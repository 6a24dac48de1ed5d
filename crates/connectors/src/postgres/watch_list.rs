//! The list of chunks whose writes may arrive late, see [`WatchList`].

use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, WatchList, Watched};
use chunk_sync_model::Target;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::records::PostgresRecords;
use super::transaction::limit_of;

const WATCH_LIST: &str = "postgres: watch list";

const WATCH: &str = "INSERT INTO chunk_sync.watch (chunk_id, target, until) \
    SELECT chunk_id, target, clock_timestamp() + make_interval(secs => $3) \
    FROM unnest($1::uuid[], $2::text[]) AS listed (chunk_id, target) ORDER BY chunk_id, target \
    ON CONFLICT (chunk_id, target) DO UPDATE SET until = greatest(watch.until, excluded.until)";

const WATCH_OUTBOX: &str = "INSERT INTO chunk_sync.watch (chunk_id, target, until) \
    SELECT chunk_id, target, clock_timestamp() + make_interval(secs => $1) FROM chunk_sync.outbox \
    ORDER BY chunk_id, target \
    ON CONFLICT (chunk_id, target) DO UPDATE SET until = greatest(watch.until, excluded.until)";

const WATCHED: &str = "SELECT chunk_id FROM chunk_sync.watch \
    WHERE target = $1 AND ($2::uuid IS NULL OR chunk_id > $2) ORDER BY chunk_id LIMIT $3";

const UNWATCH: &str = "DELETE FROM chunk_sync.watch WHERE until < clock_timestamp() RETURNING chunk_id";

impl PostgresRecords {
    async fn watching(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.query(sql, parameters).await.map_err(|error| self.fault(error, WATCH_LIST))
    }
}

#[async_trait]
impl WatchList for PostgresRecords {
    async fn watch(&self, watched: &[Watched], keep: Duration) -> Result<(), Fault> {
        let mut listed = watched.to_vec();
        listed.sort_unstable();
        listed.dedup();
        let (ids, targets): (Vec<Uuid>, Vec<&str>) =
            listed.iter().map(|watched| (watched.id, watched.target.as_str())).unzip();
        self.watching(WATCH, &[&ids, &targets, &keep.as_secs_f64()]).await.map(drop)
    }

    async fn watch_outbox(&self, keep: Duration) -> Result<(), Fault> {
        self.watching(WATCH_OUTBOX, &[&keep.as_secs_f64()]).await.map(drop)
    }

    async fn watched(&self, target: Target, after: Option<Uuid>, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let rows = self.watching(WATCHED, &[&target.as_str(), &after, &limit_of(limit)]).await?;
        let ids: Result<_, tokio_postgres::Error> = rows.iter().map(|row| row.try_get(0)).collect();
        ids.map_err(|error| self.fault(error.into(), WATCH_LIST))
    }

    async fn unwatch(&self) -> Result<u64, Fault> {
        Ok(self.watching(UNWATCH, &[]).await?.len() as u64)
    }
}
