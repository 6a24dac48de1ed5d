//! The events that wait, in the table `waiting`.

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    EntryId, Fault, Fence, NewWaiting, WaitReason, WaitingCount, WaitingEvent, WaitingEvents,
};
use chunk_sync_model::Time;
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::bus::entries::{decode, encode};
use super::database::Durability;
use super::fault::Error;
use super::rows::Rows;
use super::values::limit_of;

const CONTEXT: &str = "embedded waiting events";

/// A read ends with the event with which it has this many bytes of fields.
const READ_BYTES: usize = 8 << 20;

#[async_trait]
impl WaitingEvents for Rows {
    async fn add_waiting(&self, events: &[NewWaiting], fence: &Fence, _finished: &[EntryId]) -> Result<(), Fault> {
        // The entries of the embedded bus are finished by acknowledgement.
        let (events, fence) = (events.to_vec(), fence.clone());
        let lease = std::sync::Arc::clone(&self.database);
        let work = move |transaction: &Transaction<'_>| {
            super::fence::check(transaction, &fence, CONTEXT)?;
            if fence.lease.is_some_and(|token| !lease.lease.is(token)) {
                return Err(Error::Lease);
            }
            events.iter().try_for_each(|event| add(transaction, event))
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }

    async fn waiting_of(&self, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Fault> {
        let chunks = chunks.to_vec();
        let work = move |transaction: &Transaction<'_>| of_chunks(transaction, &chunks, limit);
        self.database.read(CONTEXT, work).await
    }

    async fn waiting_chunks(&self) -> Result<Vec<(Uuid, u64)>, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("SELECT chunk, count(*) FROM waiting GROUP BY chunk")?;
            let chunks = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            Ok(chunks.collect::<Result<_, _>>()?)
        };
        self.database.read(CONTEXT, work).await
    }

    async fn waiting_counts(&self) -> Result<Vec<WaitingCount>, Fault> {
        let work = |transaction: &Transaction<'_>| {
            let sql = "SELECT reason, count(*), min(since), sum(length(fields)) FROM waiting GROUP BY reason";
            let mut statement = transaction.prepare_cached(sql)?;
            let counts = statement.query_map([], |row| {
                let (reason, since) = (reason(&row.get::<_, String>(0)?), Time::from_micros(row.get(2)?));
                let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                Ok(WaitingCount { reason, events: number(1)?, bytes: number(3)?, since })
            })?;
            Ok(counts.collect::<Result<_, _>>()?)
        };
        self.database.read(CONTEXT, work).await
    }

    async fn explain_waiting(&self, numbers: &[u64], reason: WaitReason, error: &str) -> Result<(), Fault> {
        let (numbers, error) = (numbers.to_vec(), error.to_owned());
        let work = move |transaction: &Transaction<'_>| {
            let sql = "UPDATE waiting SET reason = ?2, error = ?3 WHERE number = ?1";
            let mut statement = transaction.prepare_cached(sql)?;
            for number in numbers {
                statement.execute(params![signed(number), reason.as_str(), error])?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Lazy, work).await
    }

    async fn remove_waiting(&self, numbers: &[u64]) -> Result<(), Fault> {
        let numbers = numbers.to_vec();
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("DELETE FROM waiting WHERE number = ?1")?;
            for number in numbers {
                statement.execute([signed(number)])?;
            }
            Ok(())
        };
        self.database.write(CONTEXT, Durability::Synced, work).await
    }
}

fn add(transaction: &Transaction<'_>, event: &NewWaiting) -> Result<(), Error> {
    let sql = "INSERT INTO waiting (name, chunk, entry, attempt, reason, error, since, fields)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (name) DO NOTHING";
    let now: Time = jiff::Timestamp::now().into();
    transaction.prepare_cached(sql)?.execute(params![
        event.name,
        event.chunk,
        event.entry.map(|id| id.to_string()),
        event.attempt,
        event.reason.as_str(),
        event.error,
        now.micros(),
        encode(&event.fields)?,
    ])?;
    Ok(())
}

fn of_chunks(transaction: &Transaction<'_>, chunks: &[Uuid], limit: usize) -> Result<Vec<WaitingEvent>, Error> {
    let mut numbers: Vec<i64> = Vec::new();
    let mut of_chunk =
        transaction.prepare_cached("SELECT number FROM waiting WHERE chunk = ?1 ORDER BY number LIMIT ?2")?;
    for chunk in chunks {
        let found = of_chunk.query_map(params![chunk, limit_of(limit)], |row| row.get::<_, i64>(0))?;
        numbers.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    numbers.sort_unstable();
    numbers.truncate(limit);
    let sql = "SELECT number, since, name, chunk, entry, attempt, reason, error, fields FROM waiting WHERE number = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    for number in numbers {
        let event = statement.query_row([number], |row| Ok(event(row)))??;
        bytes += event.event.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        events.push(event);
        if bytes >= READ_BYTES {
            break;
        }
    }
    Ok(events)
}

fn event(row: &Row<'_>) -> Result<WaitingEvent, Error> {
    let entry: Option<String> = row.get(4)?;
    let event = NewWaiting {
        name: row.get(2)?,
        chunk: row.get(3)?,
        entry: entry.and_then(|entry| entry.parse().ok()),
        attempt: row.get(5)?,
        reason: reason(&row.get::<_, String>(6)?),
        error: row.get(7)?,
        fields: decode(&row.get::<_, Vec<u8>>(8)?)?,
    };
    Ok(WaitingEvent { number: row.get::<_, i64>(0)?.unsigned_abs(), since: Time::from_micros(row.get(1)?), event })
}

/// A reason of a newer version counts as one that only time can change.
fn reason(name: &str) -> WaitReason {
    WaitReason::of(name).unwrap_or(WaitReason::Behind)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
