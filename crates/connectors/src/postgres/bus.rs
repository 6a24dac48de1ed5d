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
//! An entry with [`SUSPECT`] attempts is delivered alone, and nothing after it until it is finished, [`ALONE`] has
//! passed or its count is set below [`SUSPECT`]. It is recorded as the suspect, and a crash in that time counts an
//! attempt for it only: the entries around it reach no limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, FinishedBy, Handover,
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
use super::transaction::{begin, set_locally};

mod backlog;
mod letters;
mod read;
#[cfg(test)]
mod tests;

use backlog::Known;

use crate::backlog::MaxBacklog;
use entry::{REMOVE, entry_id, numbers};
use read::Desk;

pub(super) mod entry;
pub(super) mod handed;
const PREPARE: &str = "postgres bus: prepare";
const PUBLISH: &str = "postgres bus: publish";
const READ: &str = "postgres bus: read";
const FINISH: &str = "postgres bus: acknowledge";
const DEPTH: &str = "postgres bus: depth";
const NOW: &str = "postgres bus: time";
const ERASE: &str = "postgres bus: erase";
const RECOUNT: &str = "postgres bus: recount";

/// How long an idle reader waits between two polls.
const POLL: Duration = Duration::from_millis(15);

/// How often a read starts at the beginning of the table.
const SWEEP: Duration = Duration::from_secs(1);

/// From this number of attempts on, an entry is delivered alone.
const SUSPECT: u32 = 3;

/// How long nothing is delivered after a suspect.
const ALONE: Duration = Duration::from_secs(10);

/// Most events that one transaction adds, and the numbers of rows that one statement inserts.
const BATCH: usize = 512;

const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

/// Entries up to the greatest delivered number count as read. An entry committed late counts as read before it is
/// delivered.
const DEPTH_OF: &str = "SELECT count(*) FILTER (WHERE entry.id > reader.handed), \
    count(*) FILTER (WHERE entry.id <= reader.handed), min(entry.id), (SELECT count(*) FROM chunk_sync.dead) \
    FROM chunk_sync.bus_reader AS reader LEFT JOIN chunk_sync.bus AS entry ON true";

const OLDEST_AT: &str = "SELECT published_at FROM chunk_sync.bus ORDER BY id LIMIT 1";

/// The bus in the database of the rows.
pub struct PostgresBus {
    records: Arc<PostgresRecords>,
    max_backlog: MaxBacklog,
    backlog: Mutex<Known>,
    /// Serialises reads.
    desk: tokio::sync::Mutex<Desk>,
    published: Notify,
}

impl PostgresBus {
    /// The bus in the database of `records`. Publishers wait while it holds `max_backlog`. Sends
    /// nothing to the server yet.
    #[must_use]
    pub fn new(records: Arc<PostgresRecords>, max_backlog: MaxBacklog) -> Self {
        let (desk, published) = (tokio::sync::Mutex::default(), Notify::new());
        Self { records, max_backlog, backlog: Mutex::default(), desk, published }
    }

    fn fault(&self, error: Error, context: &'static str) -> Fault {
        self.records.fault(error, context)
    }

    async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)], context: &'static str) -> Result<Vec<Row>, Fault> {
        self.records.query(sql, params).await.map_err(|error| self.fault(error, context))
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
        let bytes: usize = entries.iter().flatten().map(Vec::len).sum();
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner).add(numbers.len(), bytes);
        self.published.notify_waiters();
        Ok(numbers.into_iter().map(entry_id).collect())
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

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        self.set_attempts(id, attempt.saturating_sub(1)).await.map_err(|error| self.fault(error, RECOUNT))
    }

    async fn erase(&self, chunk: Uuid, _mode: Erasing) -> Result<BusErasure, Fault> {
        // Finished entries are deleted.
        let unfinished = self.unfinished_of(chunk).await.map_err(|error| self.fault(error, ERASE))?;
        Ok(BusErasure { unfinished, removed: 0 })
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
