//! The bus in SQLite: the table holds the unfinished entries; an acknowledgement deletes the entry.
//!
//! Only the process that holds the lock of the directory reads entries, so it keeps the number of the last delivered
//! entry in memory. Other processes append: a waiting reader detects their commits by SQLite's `data_version`.
//!
//! # What a crash does
//! - while publishing: the transaction is committed or it is not; the publisher got no answer and publishes again;
//! - after a read: the number of the last delivered entry is lost with the process, so every unfinished entry is
//!   delivered again, in order, with one more attempt counted
//!   (not within one process, where one service follows another in order);
//! - before or during an acknowledgement: the entry is delivered again;
//! - while an entry is dead-lettered: dead letter and acknowledgement are one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chunk_sync_engine::ports::{
    Bus, BusErasure, Delivery, Depth, EntryId, Erasing, Fault, FaultClass, Handover, chunk_of,
};
use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Time};
use rusqlite::{Transaction, params};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::database::{Database, Durability};
use crate::backlog::{Backlog, MaxBacklog};

pub(super) mod entries;
mod letters;

use entries::{decode, encode, entry_id, next_number, now_millis, number, remove, take};

const PUBLISH: &str = "embedded bus: publish";
const READ: &str = "embedded bus: read";
const FINISH: &str = "embedded bus: acknowledge";

/// How long a publisher waits for room before it gets [`FaultClass::Busy`].
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// How often a waiting reader or publisher checks whether another process changed the file.
const POLL: Duration = Duration::from_millis(25);

/// The bus in the file of one directory.
pub struct EmbeddedBus {
    database: Arc<Database>,
    max_backlog: MaxBacklog,
    /// Number of the last entry delivered by this process. It advances only after the last await of a read: a read that
    /// is dropped earlier has taken no entry.
    handed: AtomicI64,
    /// Whether a delivery of an entry that was delivered before counts an attempt: the process before may have died of it.
    counts: AtomicBool,
    /// Serialises reads.
    taking: Mutex<()>,
    published: Notify,
    finished: Notify,
}

impl EmbeddedBus {
    pub(super) fn new(database: Arc<Database>, max_backlog: MaxBacklog) -> Self {
        let (published, finished) = (Notify::new(), Notify::new());
        Self {
            database,
            max_backlog,
            handed: AtomicI64::new(0),
            counts: AtomicBool::new(true),
            taking: Mutex::new(()),
            published,
            finished,
        }
    }

    /// Appends an entry with these fields, valid or not, as any client of a server could. Returns its id.
    ///
    /// # Errors
    /// [`Busy`](FaultClass::Busy) when another program holds the write lock of the file for too long; else the fault of
    /// SQLite, [`Disk`](FaultClass::Disk) when the disk is full or fails.
    pub async fn add(&self, fields: Fields) -> Result<EntryId, Fault> {
        let ids = self.add_all(vec![fields]).await?;
        ids.first()
            .copied()
            .ok_or_else(|| Fault::new(FaultClass::Corrupt, PUBLISH, "the insert returned no id for the entry"))
    }

    async fn add_all(&self, entries: Vec<Fields>) -> Result<Vec<EntryId>, Fault> {
        let now = now_millis();
        let work = move |transaction: &Transaction<'_>| {
            let first = next_number(transaction, "bus_entries", now)?;
            let mut entry = transaction.prepare_cached("INSERT INTO bus_entries (id) VALUES (?1)")?;
            let mut fields = transaction.prepare_cached("INSERT INTO bus_fields (id, fields) VALUES (?1, ?2)")?;
            let mut ids = Vec::with_capacity(entries.len());
            for (id, entry_fields) in (first..).zip(&entries) {
                entry.execute([id])?;
                fields.execute(params![id, encode(entry_fields)?])?;
                ids.push(entry_id(id));
            }
            Ok(ids)
        };
        let ids = self.database.write(PUBLISH, Durability::Synced, work).await?;
        self.published.notify_waiters();
        Ok(ids)
    }

    /// Waits until the bus holds less than `max_backlog`; [`FaultClass::Busy`] after [`ROOM_WAIT`].
    async fn room(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + ROOM_WAIT;
        loop {
            let finished = self.finished.notified();
            let backlog = self.backlog().await?;
            if self.max_backlog.has_room(backlog) {
                return Ok(());
            }
            // An acknowledgement by another process notifies nothing here, so poll.
            if timeout_at(deadline.min(Instant::now() + POLL), finished).await.is_err() && Instant::now() >= deadline {
                return Err(self.max_backlog.busy(backlog, PUBLISH));
            }
        }
    }

    /// The unfinished entries. Their bytes are added up only if the whole file has more than the bound.
    async fn backlog(&self) -> Result<Backlog, Fault> {
        let most = self.max_backlog.bytes;
        let work = move |transaction: &Transaction<'_>| {
            let number = |sql| {
                let mut statement = transaction.prepare_cached(sql)?;
                statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
            };
            let bytes = match super::database::bytes(transaction)? > most {
                true => number("SELECT coalesce(sum(length(fields)), 0) FROM bus_fields")?,
                false => 0,
            };
            Ok(Backlog { entries: number("SELECT count(*) FROM bus_entries")?, bytes })
        };
        self.database.read("embedded bus: backlog", work).await
    }

    /// Waits until this process published an entry or another process changed the file; false when the deadline passed
    /// first.
    async fn changed(
        &self,
        version: i64,
        deadline: Instant,
        mut published: std::pin::Pin<&mut tokio::sync::futures::Notified<'_>>,
    ) -> Result<bool, Fault> {
        while Instant::now() < deadline {
            if timeout_at(deadline.min(Instant::now() + POLL), published.as_mut()).await.is_ok()
                || self.database.data_version(READ).await? != version
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn take(&self, max: usize) -> Result<Vec<Delivery>, Fault> {
        if !self.database.is_worked_here() {
            let message =
                "only the process that holds the lock of the directory reads entries; this one does not hold it";
            return Err(Fault::new(FaultClass::Misconfigured, READ, message));
        }
        let _taking = self.taking.lock().await;
        let after = self.handed.load(Ordering::Acquire);
        let counts = self.counts.load(Ordering::Acquire);
        let work = move |transaction: &Transaction<'_>| take(transaction, after, max, counts);
        let unread = move |transaction: &Transaction<'_>| {
            let sql = "SELECT EXISTS (SELECT 1 FROM bus_entries WHERE id > ?1)";
            Ok(transaction.prepare_cached(sql)?.query_row([after], |row| row.get::<_, bool>(0))?)
        };
        if !self.database.read(READ, unread).await? {
            return Ok(Vec::new());
        }
        let deliveries = self.database.write(READ, Durability::Lazy, work).await?;
        if let Some(last) = deliveries.last() {
            self.handed.store(number(last.id), Ordering::Release);
        }
        Ok(deliveries)
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn prepare(&self) -> Result<(), Fault> {
        // The tables were created when the file was opened.
        Ok(())
    }

    async fn publish(&self, events: &[Event]) -> Result<Vec<EntryId>, Fault> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.room().await?;
        let bytes = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
        self.add_all(events.iter().map(|event| event.to_fields().into_iter().map(bytes).collect()).collect()).await
    }

    async fn begin(&self, handover: Handover) -> Result<(), Fault> {
        let _taking = self.taking.lock().await;
        self.counts.store(handover == Handover::Silent, Ordering::Release);
        self.handed.store(0, Ordering::Release);
        Ok(())
    }

    async fn read(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let deadline = Instant::now() + wait;
        loop {
            // Registers before the table is read: an entry published in between wakes the reader.
            let published = self.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            // Read before the table: the read of the table then covers every commit up to this version.
            let version = self.database.data_version(READ).await?;
            let deliveries = self.take(max).await?;
            if !deliveries.is_empty() || !self.changed(version, deadline, published).await? {
                return Ok(deliveries);
            }
        }
    }

    async fn acknowledge(&self, ids: &[EntryId]) -> Result<(), Fault> {
        let ids = ids.to_vec();
        let work = move |transaction: &Transaction<'_>| ids.iter().try_for_each(|id| remove(transaction, *id));
        self.database.write(FINISH, Durability::Lazy, work).await?;
        self.finished.notify_waiters();
        Ok(())
    }

    async fn recount(&self, id: EntryId, attempt: u32) -> Result<(), Fault> {
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("UPDATE bus_entries SET attempts = ?2 WHERE id = ?1")?;
            statement.execute((number(id), attempt))?;
            Ok(())
        };
        self.database.write("embedded bus: recount", Durability::Lazy, work).await
    }

    async fn erase(&self, chunk: Uuid, _mode: Erasing) -> Result<BusErasure, Fault> {
        // Finished entries are deleted.
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("SELECT fields FROM bus_fields")?;
            let mut rows = statement.query([])?;
            let mut unfinished = 0;
            while let Some(row) = rows.next()? {
                unfinished += u64::from(chunk_of(&decode(&row.get::<_, Vec<u8>>(0)?)?) == Some(chunk));
            }
            Ok(BusErasure { unfinished, removed: 0 })
        };
        self.database.read("embedded bus: erase", work).await
    }

    async fn now(&self) -> Result<Time, Fault> {
        Ok(jiff::Timestamp::now().into())
    }

    async fn epoch(&self) -> Result<String, Fault> {
        // A published entry is synced to disk before the publisher gets its id: none is ever lost.
        Ok(String::new())
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        let work = |transaction: &Transaction<'_>| {
            // Same result in every process: an entry that was delivered once is pending, even after its reader ended.
            let sql = "SELECT count(*) FILTER (WHERE attempts = 0), count(*) FILTER (WHERE attempts > 0), min(id)
                FROM bus_entries";
            let depth = transaction.prepare_cached(sql)?.query_row([], |row| {
                Ok(Depth {
                    unread: row.get::<_, i64>(0)?.unsigned_abs(),
                    pending: row.get::<_, i64>(1)?.unsigned_abs(),
                    dead: 0,
                    oldest: row.get::<_, Option<i64>>(2)?.map(entry_id),
                })
            })?;
            let dead: i64 = transaction.query_row("SELECT count(*) FROM bus_dead", [], |row| row.get(0))?;
            Ok(Depth { dead: dead.unsigned_abs(), ..depth })
        };
        self.database.read("embedded bus: depth", work).await
    }

    async fn trim(&self) -> Result<u64, Fault> {
        // An acknowledgement deletes its entry, so the table holds no finished entries.
        Ok(0)
    }
}
