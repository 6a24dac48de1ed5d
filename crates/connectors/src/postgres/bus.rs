//! The bus as a table beside the rows, for installations without Redis: `chunk_sync.bus` holds the unfinished entries,
//! and the transaction of the merge that applies an entry deletes it ([`FinishedBy::Merge`]).
//!
//! # In the server
//! - `chunk_sync.bus`: one row per entry. Numbers ascend in the order of assignment, which is not always the order in
//!   which they become visible: a publisher may commit late. `fields` alternates names and values, so that any SQL
//!   client can publish. `published_at` is the server's `clock_timestamp()`.
//! - `chunk_sync.bus_reader`, one row: the greatest number delivered, and the suspect (below).
//! - `chunk_sync.dead`: the dead letters.
//!
//! # Reading
//! Any process publishes, one process at a time reads. It reads *unfinished* entries in order of their numbers, not the
//! entries "above the last number": it keeps the set of numbers that it has delivered and skips exactly these. Finished
//! entries leave dead index entries behind, which every scan from the start would pass until they are vacuumed; so a
//! read starts at a low-water mark, which lags by one to two [`SWEEP`]s. Once per [`SWEEP`] a read starts at the
//! beginning of the table and so finds the entries of publishers that committed later than that.
//!
//! An idle reader polls every [`POLL`], and at once when this process publishes. It does not `LISTEN`: behind a pooler
//! in transaction mode, `LISTEN` succeeds but no notification arrives, and transactions that notify commit one after
//! the other. A poll is one index probe.
//!
//! # What a crash does
//! - while publishing: the transaction is committed or it is not; the publisher has no answer and publishes again.
//!   Numbers that were assigned and never committed are gaps, for which no reader waits;
//! - after a read: the set of delivered numbers is lost with the process. The next process finds every unfinished
//!   entry, in order, and counts one more attempt for the entries that the crashed process may have been working on;
//! - during a merge: row, record, outbox and the deletion of the entry are one transaction;
//! - while an entry is dead-lettered: letter and deletion are one transaction; a letter without an entry is only
//!   inserted;
//! - of the server: `bus_reader` is written without waiting for the disk. When that write is lost, an attempt is not
//!   counted.
//!
//! # An entry that crashes its process
//! An entry with [`SUSPECT`] attempts is delivered alone, and nothing after it until it is finished or [`ALONE`] has
//! passed. It is recorded as the suspect, and a crash in that time counts an attempt for it only: the entries around it
//! reach no limit.

pub(super) mod entry;
pub(super) mod handed;
mod read;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, DeadLetter, DeadLetters, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, FinishedBy,
    Handover, Letter, chunk_of,
};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};
use deadpool_postgres::GenericClient;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use uuid::Uuid;

use super::fault::Error;
use super::records::PostgresRecords;
use super::transaction::{begin, execute, limit_of, set_locally};
use entry::{REMOVE, entry_id, number, numbers};
use read::Desk;

const PREPARE: &str = "postgres bus: prepare";
const PUBLISH: &str = "postgres bus: publish";
const READ: &str = "postgres bus: read";
const FINISH: &str = "postgres bus: acknowledge";
const DEAD: &str = "postgres bus: dead letters";
const DEPTH: &str = "postgres bus: depth";
const NOW: &str = "postgres bus: time";
const ERASE: &str = "postgres bus: erase";

const ENTRIES: &str = "SELECT id, fields FROM chunk_sync.bus WHERE id > $1 ORDER BY id LIMIT 16";

/// How long an idle reader waits between two polls.
const POLL: Duration = Duration::from_millis(15);

/// How often a read starts at the beginning of the table.
const SWEEP: Duration = Duration::from_secs(1);

/// From this number of attempts on, an entry is delivered alone.
const SUSPECT: u32 = 3;

/// How long nothing is delivered after a suspect.
const ALONE: Duration = Duration::from_secs(10);

/// How long a publisher waits for room before it gets [`FaultClass::Busy`].
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// How often a waiting publisher counts the entries, and how long other publishers use a count.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
const ROOM_KNOWN: Duration = Duration::from_millis(250);

/// Most events that one transaction adds, and the numbers of rows that one statement inserts.
const BATCH: usize = 512;
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

const COUNT: &str = "SELECT count(*) FROM (SELECT FROM chunk_sync.bus LIMIT $1) AS entries";

/// Entries up to the greatest delivered number count as read. An entry committed late counts as read before it is
/// delivered.
const DEPTH_OF: &str = "SELECT count(*) FILTER (WHERE entry.id > reader.handed), \
    count(*) FILTER (WHERE entry.id <= reader.handed), min(entry.id), (SELECT count(*) FROM chunk_sync.dead) \
    FROM chunk_sync.bus_reader AS reader LEFT JOIN chunk_sync.bus AS entry ON true";

const OLDEST_AT: &str = "SELECT published_at FROM chunk_sync.bus ORDER BY id LIMIT 1";

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

const DROP: &str = "DELETE FROM chunk_sync.dead WHERE id = $1";

/// The bus in the database of the rows.
pub struct PostgresBus {
    records: Arc<PostgresRecords>,
    max_backlog: u64,
    backlog: Mutex<Backlog>,
    /// Serialises reads.
    desk: tokio::sync::Mutex<Desk>,
    published: Notify,
}

/// The last count of the entries, its time, and how many entries this process has added since.
#[derive(Default)]
struct Backlog {
    counted: u64,
    added: u64,
    at: Option<Instant>,
}

impl PostgresBus {
    /// The bus in the database of `records`. Publishers wait while it holds `max_backlog` unfinished entries. Sends
    /// nothing to the server yet.
    #[must_use]
    pub fn new(records: Arc<PostgresRecords>, max_backlog: u64) -> Self {
        let (desk, published) = (tokio::sync::Mutex::default(), Notify::new());
        Self { records, max_backlog, backlog: Mutex::default(), desk, published }
    }

    fn fault(&self, error: Error, context: &'static str) -> Fault {
        self.records.fault(error, context)
    }

    async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)], context: &'static str) -> Result<Vec<Row>, Fault> {
        self.records.query(sql, params).await.map_err(|error| self.fault(error, context))
    }

    /// Waits until the bus holds fewer than `max_backlog` unfinished entries; [`FaultClass::Busy`] after [`ROOM_WAIT`].
    async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            let finished = self.records.handed.finished.notified();
            let backlog = match self.known_backlog() {
                Some(known) if known < self.max_backlog => return Ok(()),
                _ => self.count_backlog().await?,
            };
            if backlog < self.max_backlog {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "the bus is full: it holds {backlog} unfinished events, its limit is {}; start `chunk-sync run`, \
                     or wait until it has synced some",
                    self.max_backlog
                );
                return Err(Fault::new(FaultClass::Busy, PUBLISH, message));
            }
            // The notification is the common case; the pause covers entries that another process finishes.
            let _ = timeout_at(deadline.min(Instant::now() + ROOM_PAUSE), finished).await;
        }
    }

    fn known_backlog(&self) -> Option<u64> {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.at.filter(|at| at.elapsed() < ROOM_KNOWN).map(|_| backlog.counted + backlog.added)
    }

    /// Counts the entries, up to `max_backlog`.
    async fn count_backlog(&self) -> Result<u64, Fault> {
        let bound = i64::try_from(self.max_backlog).unwrap_or(i64::MAX);
        let rows = self.query(COUNT, &[&bound], PUBLISH).await?;
        let counted = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0));
        let counted = counted.map_err(|error| self.fault(error.into(), PUBLISH))?.unsigned_abs();
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        *backlog = Backlog { counted, added: 0, at: Some(Instant::now()) };
        Ok(counted)
    }

    /// Inserts entries in one transaction and returns their ids, in order.
    async fn add(&self, entries: &[Vec<Vec<u8>>]) -> Result<Vec<EntryId>, Error> {
        let mut client = self.records.pool.get().await?;
        let added = self.records.pool.within(async {
            // A single statement is its own transaction.
            if entries.len() == 1 {
                return insert(&client, entries).await;
            }
            let transaction = begin(&mut client, IsolationLevel::ReadCommitted, false).await?;
            set_locally(&transaction, self.records.config.lock_timeout).await?;
            let mut numbers = Vec::with_capacity(entries.len());
            let mut rest = entries;
            while let Some(rows) = ROWS.into_iter().find(|rows| *rows <= rest.len()) {
                let (some, others) = rest.split_at(rows);
                numbers.extend(insert(&transaction, some).await?);
                rest = others;
            }
            transaction.commit().await?;
            Ok(numbers)
        });
        let added = added.await;
        let numbers = self.records.pool.settle(client, added)?;
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner).added += numbers.len() as u64;
        self.published.notify_waiters();
        Ok(numbers.into_iter().map(entry_id).collect())
    }

    async fn set_aside(&self, letters: &[DeadLetter]) -> Result<(), Error> {
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

    async fn remove(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let client = self.records.pool.get().await?;
        let done = self.records.pool.within(async {
            let statement = client.prepare_cached(sql).await?;
            Ok(client.execute(&statement, parameters).await?)
        });
        let done = done.await;
        self.records.pool.settle(client, done)
    }
}

#[async_trait]
impl Bus for PostgresBus {
    fn finished_by(&self) -> FinishedBy {
        FinishedBy::Merge
    }

    async fn prepare(&self) -> Result<(), Fault> {
        // The tables are created with those of the records.
        self.records.layout().await.map(drop).map_err(|error| self.fault(error, PREPARE))
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        let mut ids = Vec::with_capacity(events.len());
        for events in events.chunks(BATCH) {
            self.room().await?;
            let entries: Vec<_> = events.iter().map(entry_of).collect();
            ids.extend(self.add(&entries).await.map_err(|error| self.fault(error, PUBLISH))?);
        }
        Ok(ids)
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        self.take_over(handover).await.map_err(|error| self.fault(error, READ))
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            // Registers before the table is read: an entry published in between wakes the reader.
            let published = self.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            let deliveries = self.take(max.max(1)).await.map_err(|error| self.fault(error, READ))?;
            let now = Instant::now();
            if !deliveries.is_empty() || now >= deadline {
                return Ok(deliveries);
            }
            let _ = timeout_at(deadline.min(now + POLL), published).await;
        }
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        self.remove(REMOVE, &[&numbers(ids)]).await.map_err(|error| self.fault(error, FINISH))?;
        self.records.handed.finish(ids);
        Ok(())
    }

    async fn erase(&self, chunk: Uuid, _mode: Erasing) -> Result<BusErasure, Fault> {
        // Finished entries are deleted.
        let (mut after, mut unfinished) = (i64::MIN, 0);
        loop {
            let rows = self.query(ENTRIES, &[&after], ERASE).await?;
            for row in &rows {
                let read = || Ok::<_, tokio_postgres::Error>((row.try_get(0)?, fields(row.try_get(1)?)));
                let (number, fields): (i64, Fields) = read().map_err(|error| self.fault(error.into(), ERASE))?;
                unfinished += u64::from(chunk_of(&fields) == Some(chunk));
                after = number;
            }
            if rows.is_empty() {
                return Ok(BusErasure { unfinished, removed: 0 });
            }
        }
    }

    async fn now(&self) -> Result<Time, Fault> {
        let rows = self.query("SELECT clock_timestamp()", &[], NOW).await?;
        let now = rows.first().map_or(Ok(Time::from_micros(0)), |row| read::time(row, 0));
        now.map_err(|error| self.fault(error.into(), NOW))
    }

    async fn epoch(&self) -> Result<String, Fault> {
        // Entries are as durable as the rows: a server that lost entries has lost rows too, and capture detects that.
        Ok(String::new())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let rows = self.query(DEPTH_OF, &[], DEPTH).await?;
        let Some(row) = rows.first() else {
            let message = "the table chunk_sync.bus_reader is empty; run `chunk-sync init`";
            return Err(Fault::new(FaultClass::Misconfigured, DEPTH, message));
        };
        let read = || -> Result<Depth, tokio_postgres::Error> {
            Ok(Depth {
                unread: row.try_get::<_, i64>(0)?.unsigned_abs(),
                pending: row.try_get::<_, i64>(1)?.unsigned_abs(),
                dead: row.try_get::<_, i64>(3)?.unsigned_abs(),
                oldest: row.try_get::<_, Option<i64>>(2)?.map(entry_id),
            })
        };
        read().map_err(|error| self.fault(error.into(), DEPTH))
    }

    async fn oldest_at(&self) -> Result<Option<Time>, Fault> {
        let rows = self.query(OLDEST_AT, &[], DEPTH).await?;
        let at: Option<super::cell::Cell> =
            rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| self.fault(error.into(), DEPTH))?;
        Ok(at.and_then(|at| if let super::cell::Cell::Time(time) = at { Some(time) } else { None }))
    }

    async fn trim(&self) -> Result<u64, Fault> {
        // Finished entries are deleted, so the table holds no finished entries.
        Ok(0)
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

    async fn drop_dead(&self, id: EntryId) -> Result<bool, Fault> {
        let Some(number) = number(id) else { return Ok(false) };
        let dropped = self.remove(DROP, &[&number]).await.map_err(|error| self.fault(error, DEAD))?;
        Ok(dropped > 0)
    }
}

/// Inserts entries by one statement, which assigns ascending numbers in their order.
async fn insert(client: &impl GenericClient, entries: &[Vec<Vec<u8>>]) -> Result<Vec<i64>, Error> {
    let places: Vec<String> = (1..=entries.len()).map(|place| format!("(${place})")).collect();
    let sql = format!("INSERT INTO chunk_sync.bus (fields) VALUES {} RETURNING id", places.join(", "));
    let parameters: Vec<&(dyn ToSql + Sync)> = entries.iter().map(|entry| entry as _).collect();
    let rows = client.query(&client.prepare_cached(&sql).await?, &parameters).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn entry_of(event: &Event) -> Vec<Vec<u8>> {
    event.to_fields().into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.into_bytes()]).collect()
}

/// Alternating names and values, as in the table.
pub(super) fn in_turn(fields: Fields) -> Vec<Vec<u8>> {
    fields.into_iter().flat_map(|(name, value)| [name, value]).collect()
}

/// The inverse of [`in_turn`].
pub(super) fn fields(in_turn: Vec<Vec<u8>>) -> Fields {
    let mut values = in_turn.into_iter();
    std::iter::from_fn(|| Some((values.next()?, values.next().unwrap_or_default()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_id_has_the_order_of_its_number_and_is_read_as_it_is_written() {
        let ids = [1, 2, 9, 10, i64::MAX].map(entry_id);
        assert!(ids.is_sorted_by(|a, b| a < b));
        for id in ids {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(number(id).map(entry_id), Some(id));
        }
        assert_eq!(number("1700000000000-3".parse().unwrap()), None, "an id of another bus names no entry here");
    }

    #[test]
    fn fields_come_back_as_they_were() {
        let original: Fields = vec![(b"chunk".to_vec(), vec![0xff, 0x00]), (Vec::new(), Vec::new())];
        assert_eq!(fields(in_turn(original.clone())), original);
    }
}
