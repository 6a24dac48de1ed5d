//! Records that no merge has written for long, see [`IdleRecords`].

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, IdlePage, IdleRecords};
use chunk_sync_model::Time;
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::database::Durability;
use super::rows::Rows;
use super::values::limit_of;

const IDLE: &str = "embedded rows: idle records";

#[async_trait]
impl IdleRecords for Rows {
    async fn idle(&self, after: Option<Uuid>, before: Time, limit: usize) -> Result<IdlePage, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT id, NOT swept AND merged_at < ?2 FROM records WHERE ?1 IS NULL OR id > ?1
                ORDER BY id LIMIT ?3";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map(params![after, before.micros(), limit_of(limit)], |row| {
                Ok((row.get::<_, Uuid>(0)?, row.get::<_, bool>(1)?))
            })?;
            let rows: Vec<(Uuid, bool)> = rows.collect::<Result<_, _>>()?;
            let last = rows.last().filter(|_| rows.len() == limit).map(|(id, _)| *id);
            Ok(IdlePage { ids: rows.into_iter().filter(|(_, idle)| *idle).map(|(id, _)| id).collect(), last })
        };
        self.database.read(IDLE, work).await
    }

    async fn swept(&self, ids: &[Uuid], before: Time) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let sql = "UPDATE records SET swept = 1 WHERE id = ?1 AND merged_at < ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            ids.iter().try_for_each(|id| statement.execute(params![id, before.micros()]).map(drop))?;
            Ok(())
        };
        self.database.write(IDLE, Durability::Lazy, work).await
    }
}
