//! The dead letters, in a table beside the entries.

use async_trait::async_trait;
use chunk_sync_engine::ports::{DeadLetter, DeadLetters, EntryId, Fault, Letter};
use tokio_postgres::{IsolationLevel, Row};

use super::entry::{REMOVE, entry_id, number, numbers};
use super::{PostgresBus, fields, in_turn};
use crate::postgres::fault::Error;
use crate::postgres::transaction::{begin, execute, limit_of, set_locally};

const DEAD: &str = "postgres bus: dead letters";
const LETTER: &str = "INSERT INTO chunk_sync.dead (fields) VALUES ($1)";

/// Dead letters, at most `$2`, up to the one with which they exceed `$3` bytes. Of a letter above `$4` bytes, long values
/// are abridged.
const LETTERS: &str = "WITH sized AS (SELECT id, CASE WHEN pg_column_size(fields) < 8192 \
        THEN pg_column_size(fields)::bigint ELSE (SELECT sum(octet_length(part)) FROM unnest(fields) AS part)::bigint END \
        AS bytes FROM chunk_sync.dead WHERE id > $1 ORDER BY id LIMIT $2), \
    summed AS (SELECT id, bytes, sum(least(bytes, $4::bigint)) OVER (ORDER BY id) - least(bytes, $4::bigint) AS before FROM sized) \
    SELECT id, CASE WHEN bytes <= $4::bigint THEN fields ELSE ARRAY(SELECT CASE WHEN octet_length(part) > 4096 \
        THEN substr(part, 1, 1024) ELSE part END FROM unnest(fields) WITH ORDINALITY AS parts (part, place) \
        ORDER BY place) END FROM summed JOIN chunk_sync.dead USING (id) WHERE before < $3::bigint ORDER BY id";

/// Approximate limit of the bytes that one read of letters returns.
const PAGE_BYTES: i64 = 8 << 20;

const BYTES: &str = "SELECT coalesce(sum(pg_column_size(fields)), 0)::bigint FROM chunk_sync.dead";

const DROP: &str = "DELETE FROM chunk_sync.dead WHERE id = $1";

impl PostgresBus {
    pub(super) async fn set_aside(&self, letters: &[DeadLetter]) -> Result<(), Error> {
        let ids: Vec<EntryId> = letters.iter().filter_map(|letter| letter.id).collect();
        let mut client = self.records.pool.get().await?;
        let done = self.records.pool.within(async {
            let transaction = begin(&mut client, IsolationLevel::ReadCommitted, false).await?;
            set_locally(&transaction, self.records.config.lock_timeout).await?;
            for letter in letters {
                execute(&transaction, LETTER, &[&in_turn(letter.fields())]).await?;
            }
            execute(&transaction, REMOVE, &[&numbers(&ids)]).await?;
            Ok(transaction.commit().await?)
        });
        let done = done.await;
        self.records.pool.settle(client, done)?;
        self.records.handed.finish(&ids);
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for PostgresBus {
    async fn dead_letter(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.set_aside(letters).await.map_err(|error| self.fault(error, DEAD))
    }

    async fn dead(&self, after: Option<EntryId>, limit: usize) -> Result<Vec<Letter>, Fault> {
        let after = after.map_or(0, |after| number(after).unwrap_or(i64::MAX));
        let longest = limit_of(self.records.config.limits.event_max_bytes) + (64 << 10);
        let rows = self.query(LETTERS, &[&after, &limit_of(limit), &PAGE_BYTES, &longest], DEAD).await?;
        let letter = |row: &Row| Ok(Letter { id: entry_id(row.try_get(0)?), fields: fields(row.try_get(1)?) });
        let letters: Result<_, tokio_postgres::Error> = rows.iter().map(letter).collect();
        letters.map_err(|error| self.fault(error.into(), DEAD))
    }

    async fn dead_bytes(&self) -> Result<Option<u64>, Fault> {
        let rows = self.query(BYTES, &[], DEAD).await?;
        let bytes = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose();
        Ok(bytes.map_err(|error| self.fault(error.into(), DEAD))?.map(i64::unsigned_abs))
    }

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        let Some(number) = number(id) else { return Ok(false) };
        let dropped = self.remove(DROP, &[&number]).await.map_err(|error| self.fault(error, DEAD))?;
        Ok(dropped > 0)
    }
}
