//! The events that wait, in `chunk_sync.waiting`.

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    EntryId, Fault, Fence, NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents,
};
use chunk_sync_model::Time;
use deadpool_postgres::Transaction;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::bus::{entry, fields, in_turn};
use super::cell::Cell;
use super::fault::Error;
use super::fence;
use super::merge::check_lease;
use super::records::PostgresRecords;
use super::transaction::{begin, execute, limit_of, set_locally};

const CONTEXT: &str = "postgres: waiting events";

const ADD: &str = "INSERT INTO chunk_sync.waiting (name, chunk_id, entry, attempt, reason, error, fields) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING";

/// The events of chunks, at most `$2`, up to the one with which they exceed `$3` bytes.
const OF_CHUNKS: &str = "WITH sized AS (SELECT number, CASE WHEN pg_column_size(fields) < 8192 \
        THEN pg_column_size(fields)::bigint ELSE (SELECT sum(octet_length(part)) FROM unnest(fields) AS part)::bigint END \
        AS bytes FROM chunk_sync.waiting WHERE chunk_id = ANY($1) ORDER BY number LIMIT $2), \
    summed AS (SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS before FROM sized) \
    SELECT number, since, name, chunk_id, entry, attempt, reason, error, fields \
    FROM summed JOIN chunk_sync.waiting USING (number) WHERE before < $3::bigint ORDER BY number";

const CHUNKS: &str = "SELECT chunk_id, count(*) FROM chunk_sync.waiting GROUP BY chunk_id";

/// The size of a value as it is stored is known without reading a long value.
const COUNTS: &str = "SELECT reason, count(*), min(since), sum(pg_column_size(fields))::bigint \
    FROM chunk_sync.waiting GROUP BY reason";

const EXPLAIN: &str = "UPDATE chunk_sync.waiting SET reason = $2, error = $3 \
    WHERE number = ANY($1) AND (reason <> $2 OR error <> $3)";

const REMOVE: &str = "DELETE FROM chunk_sync.waiting WHERE number = ANY($1)";

/// Approximate limit of the bytes that one read returns.
const READ_BYTES: i64 = 8 << 20;

#[async_trait]
impl WaitingEvents for PostgresRecords {
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Fault> {
        self.waiting_fault(self.add(events, fence, finished).await)?;
        self.handed.finish(finished);
        Ok(())
    }

    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault> {
        let rows = self.query(OF_CHUNKS, &[&chunks, &limit_of(limit), &READ_BYTES]).await;
        self.waiting_fault(rows.and_then(|rows| rows.iter().map(event).collect()))
    }

    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault> {
        let chunk = |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()));
        let rows = self.query(CHUNKS, &[]).await;
        self.waiting_fault(rows.and_then(|rows| rows.iter().map(chunk).collect()))
    }

    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault> {
        let count = |row: &Row| {
            let number = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
            let (events, bytes) = (number(1)?, number(3)?);
            Ok(WaitingCount { reason: reason(row.try_get(0)?), events, bytes, since: time(row, 2)? })
        };
        let rows = self.query(COUNTS, &[]).await;
        self.waiting_fault(rows.and_then(|rows| rows.iter().map(count).collect()))
    }

    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault> {
        let done = self.query(EXPLAIN, &[&signed(numbers), &reason.as_str(), &error]).await;
        self.waiting_fault(done.map(drop))
    }

    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault> {
        let done = self.query(REMOVE, &[&signed(numbers)]).await;
        self.waiting_fault(done.map(drop))
    }
}

impl PostgresRecords {
    fn waiting_fault<T>(&self, result: Result<T, Error>) -> Result<T, Fault> {
        result.map_err(|error| self.fault(error, CONTEXT))
    }

    async fn add(&self, events: &[NewWaiting], fence: &Fence, finished: &[EntryId]) -> Result<(), Error> {
        let mut client = self.pool.get().await?;
        let added = self.pool.within(async {
            let transaction = begin(&mut client, IsolationLevel::ReadCommitted, false).await?;
            set_locally(&transaction, self.config.lock_timeout).await?;
            fence::check(&transaction, fence).await?;
            check_lease(&transaction, fence).await?;
            for event in events {
                add_one(&transaction, event).await?;
            }
            if !finished.is_empty() {
                execute(&transaction, entry::REMOVE, &[&entry::numbers(finished)]).await?;
            }
            Ok(transaction.commit().await?)
        });
        let added = added.await;
        self.pool.settle(client, added)
    }
}

async fn add_one(transaction: &Transaction<'_>, event: &NewWaiting) -> Result<(), Error> {
    let (entry, fields) = (event.entry.map(|id| id.to_string()), in_turn(event.fields.clone()));
    let attempt = i32::try_from(event.attempt).unwrap_or(i32::MAX);
    let reason = event.reason.as_str();
    // The text of an error may quote a value; PostgreSQL cannot store U+0000.
    let error = event.error.replace('\0', "\u{fffd}");
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&event.name, &event.chunk, &entry, &attempt, &reason, &error, &fields];
    execute(transaction, ADD, &parameters).await.map(drop)
}

fn event(row: &Row) -> Result<WaitingEvent, Error> {
    let entry: Option<String> = row.try_get(4)?;
    let event = NewWaiting {
        name: row.try_get(2)?,
        chunk: row.try_get(3)?,
        entry: entry.and_then(|entry| entry.parse().ok()),
        attempt: row.try_get::<_, i32>(5)?.unsigned_abs(),
        reason: reason(row.try_get(6)?),
        error: row.try_get(7)?,
        fields: fields(row.try_get(8)?),
    };
    Ok(WaitingEvent { number: row.try_get::<_, i64>(0)?.unsigned_abs(), since: time(row, 1)?, event })
}

/// A reason of a newer version counts as one that only time can change.
fn reason(name: &str) -> WaitReason {
    WaitReason::of(name).unwrap_or(WaitReason::Behind)
}

fn time(row: &Row, column: usize) -> Result<Time, Error> {
    match row.try_get(column)? {
        Cell::Time(time) => Ok(time),
        _ => Ok(Time::from_micros(0)),
    }
}

fn signed(numbers: &[u64]) -> Vec<i64> {
    numbers.iter().filter_map(|number| i64::try_from(*number).ok()).collect()
}
