//! Erasures, see [`Erasures`].

use async_trait::async_trait;
use chunk_sync_engine::ports::{Erasures, Fault};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::records::PostgresRecords;
use super::transaction::limit_of;

const ERASE: &str = "postgres: erase";

const REQUEST: &str = "INSERT INTO chunk_sync.erasures (chunk_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING";

const REQUESTED: &str = "SELECT chunk_id FROM chunk_sync.erasures ORDER BY chunk_id LIMIT $1";

const WITHDRAW: &str = "DELETE FROM chunk_sync.erasures WHERE chunk_id = ANY($1)";

const ERASE_CONFLICTS: &str = "DELETE FROM chunk_sync.conflicts WHERE chunk_id = $1 RETURNING chunk_id";

impl PostgresRecords {
    async fn erasing(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.query(sql, parameters).await.map_err(|error| self.fault(error, ERASE))
    }
}

#[async_trait]
impl Erasures for PostgresRecords {
    async fn request_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.erasing(REQUEST, &[&ids]).await.map(drop)
    }

    async fn requested_erasures(&self, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let rows = self.erasing(REQUESTED, &[&limit_of(limit)]).await?;
        let ids: Result<_, tokio_postgres::Error> = rows.iter().map(|row| row.try_get(0)).collect();
        ids.map_err(|error| self.fault(error.into(), ERASE))
    }

    async fn withdraw_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        self.erasing(WITHDRAW, &[&ids]).await.map(drop)
    }

    async fn erase_conflicts(&self, id: Uuid) -> Result<u64, Fault> {
        Ok(self.erasing(ERASE_CONFLICTS, &[&id]).await?.len() as u64)
    }
}
