//! The dead letters, in a table beside the entries.

use async_trait::async_trait;
use chunk_sync_engine::ports::{DeadLetter, DeadLetters, EntryId, Fault, Letter};
use rusqlite::{Transaction, params};

use super::EmbeddedBus;
use super::entries::{READ_BYTES, decode, encode, entry_id, next_number, now_millis, number, remove};
use crate::embedded::database::Durability;
use crate::embedded::values::limit_of;

pub(super) const DEAD: &str = "embedded bus: dead letters";

#[async_trait]
impl DeadLetters for EmbeddedBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        let letters = letters.to_vec();
        let now = now_millis();
        let work = move |transaction: &Transaction<'_>| {
            let first = next_number(transaction, "bus_dead", now)?;
            for (id, letter) in (first..).zip(&letters) {
                let sql = "INSERT INTO bus_dead (id, fields) VALUES (?1, ?2)";
                transaction.prepare_cached(sql)?.execute(params![id, encode(&letter.fields())?])?;
                letter.id.map_or(Ok(()), |entry| remove(transaction, entry))?;
            }
            Ok(())
        };
        self.database.write(DEAD, Durability::Synced, work).await?;
        self.finished.notify_waiters();
        Ok(())
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        let after = after.map_or(0, number);
        let work = move |transaction: &Transaction<'_>| {
            let sql = "SELECT id, fields FROM bus_dead WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map(params![after, limit_of(limit)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
            let (mut letters, mut bytes) = (Vec::new(), 0);
            for row in rows {
                let (id, fields) = row?;
                letters.push(Letter { id: entry_id(id), fields: decode(&fields)? });
                bytes += fields.len();
                if bytes >= READ_BYTES {
                    break;
                }
            }
            Ok(letters)
        };
        self.database.read(DEAD, work).await
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let sql = "SELECT coalesce(sum(length(fields)), 0) FROM bus_dead";
            Ok(Some(transaction.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs()))
        };
        self.database.read(DEAD, work).await
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        let work = move |transaction: &Transaction<'_>| {
            Ok(transaction.execute("DELETE FROM bus_dead WHERE id = ?1", [number(id)])? > 0)
        };
        self.database.write(DEAD, Durability::Synced, work).await
    }
}
