//! Erasures, see [`Erasures`].

use async_trait::async_trait;
use chunk_sync_engine::ports::{Erasures, Fault};
use rusqlite::Transaction;
use uuid::Uuid;

use super::database::Durability;
use super::rows::Rows;
use super::values::limit_of;

const ERASE: &str = "embedded rows: erase";

#[async_trait]
impl Erasures for Rows {
    async fn request_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("INSERT OR IGNORE INTO erasures (id) VALUES (?1)")?;
            ids.iter().try_for_each(|id| statement.execute([id]).map(drop))?;
            Ok(())
        };
        self.database.write(ERASE, Durability::Synced, work).await
    }

    async fn requested_erasures(&self, limit: usize) -> Result<Vec<Uuid>, Fault> {
        let sql = "SELECT id FROM erasures ORDER BY id LIMIT ?1";
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(sql)?;
            let ids = statement.query_map([limit_of(limit)], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        };
        self.database.read(ERASE, work).await
    }

    async fn withdraw_erasure(&self, ids: &[Uuid]) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("DELETE FROM erasures WHERE id = ?1")?;
            ids.iter().try_for_each(|id| statement.execute([id]).map(drop))?;
            Ok(())
        };
        self.database.write(ERASE, Durability::Synced, work).await
    }

    async fn erase_conflicts(&self, id: Uuid) -> Result<u64, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.execute("DELETE FROM conflicts WHERE chunk = ?1", [id])? as u64)
        };
        self.database.write(ERASE, Durability::Synced, work).await
    }
}
