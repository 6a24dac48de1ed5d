//! Polls the log by SQL, for a plugin that the replication client does not support. The server decodes the read but
//! unconfirmed part of the log again with every poll, so the cost grows with the backlog of capture.

use std::time::Duration;

use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position};
use deadpool_postgres::{Client, ClientWrapper};
use futures::TryStreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::wal2json::{Lines, options};
use super::{CONTEXT, PostgresRecords, literal};
use crate::postgres::fault::Error;

/// Changes requested per poll; doubled while so many are read and not confirmed.
const CHANGES: i32 = 4096;

/// Pause after a poll without new transactions.
const PAUSE: Duration = Duration::from_millis(200);

/// Most parts of transactions read ahead of the consumer.
const AHEAD: usize = 4;

/// The line of a change without the contents of its row: the server keeps them to itself.
const KEYS: &str = "CASE WHEN left(data, 13) IN ('{\"action\":\"I\"', '{\"action\":\"U\"', '{\"action\":\"D\"') THEN \
    json_build_object('action', data::json->'action', \
        'columns', (SELECT json_agg(part) FROM json_array_elements(data::json->'columns') part \
            WHERE part->>'name' = 'id'), \
        'identity', (SELECT json_agg(part) FROM json_array_elements(data::json->'identity') part \
            WHERE part->>'name' = 'id'))::text \
    ELSE data END";

/// The result of one poll.
#[derive(Default)]
struct Polled {
    lines: usize,
    /// Whether a transaction ended that was not read before.
    new: bool,
}

/// An open log.
pub(super) struct Polling {
    captured: mpsc::Receiver<Result<Captured, Fault>>,
    confirmed: watch::Sender<Position>,
    task: JoinHandle<()>,
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Polling {
    pub(super) async fn open(records: &PostgresRecords, slot: &str) -> Result<Self, Fault> {
        let fault = |error: Error| records.fault(error, CONTEXT);
        // A session of its own: it holds the advisory lock that admits one reader, and the lock ends with the process.
        let client = Client::take(records.pool.get().await.map_err(fault)?);
        let lock = format!("SELECT pg_try_advisory_lock(hashtextextended({}, 0))", literal(slot));
        let begun = async {
            // A large transaction takes long to decode; no timeout of ours may end that.
            client.batch_execute("SET TIME ZONE 'UTC'; SET statement_timeout = 0").await?;
            Ok(client.query_one(&lock, &[]).await?.try_get::<_, bool>(0)?)
        };
        if !records.pool.within(begun).await.map_err(fault)? {
            return Err(Fault::new(
                FaultClass::Busy,
                CONTEXT,
                format!("the slot {slot} is in use; stop the other reader, or set postgres.slot to another name"),
            ));
        }
        let (told, captured) = mpsc::channel(AHEAD);
        let (confirmed, confirming) = watch::channel(Position::default());
        let options = options(&records.config.schema, &records.config.table);
        let reader = Reader { client, slot: literal(slot), options, told, confirming };
        Ok(Self { captured, confirmed, task: tokio::spawn(reader.run()) })
    }

    /// Waits for the next transaction.
    pub(super) async fn next(&mut self) -> Result<Captured, Fault> {
        let ended = || Err(Fault::new(FaultClass::Unavailable, CONTEXT, "the task that polls the log has ended"));
        self.captured.recv().await.unwrap_or_else(ended)
    }

    /// Confirms that every transaction up to `position` is durable on the bus.
    pub(super) fn confirm(&mut self, position: Position) {
        self.confirmed.send_replace(position);
    }
}

struct Reader {
    client: ClientWrapper,
    slot: String,
    options: String,
    told: mpsc::Sender<Result<Captured, Fault>>,
    confirming: watch::Receiver<Position>,
}

impl Reader {
    async fn run(mut self) {
        if let Err(fault) = self.read().await {
            // When the receiver is gone, the capture has been closed and needs no error.
            let _ = self.told.send(Err(fault)).await;
        }
    }

    async fn read(&mut self) -> Result<(), Fault> {
        let (mut read, mut wanted) = (Position::default(), CHANGES);
        loop {
            if self.confirming.has_changed().unwrap_or(false) {
                let position = *self.confirming.borrow_and_update();
                self.rows(&format!("SELECT pg_replication_slot_advance({}, '{position}')::text", self.slot)).await?;
                wanted = CHANGES;
            }
            let peek = format!(
                "SELECT {KEYS} FROM pg_logical_slot_peek_changes({}, NULL, {wanted}, {}) AS change (lsn, xid, data)",
                self.slot, self.options
            );
            let Some(polled) = self.poll(&peek, &mut read).await? else { return Ok(()) };
            match (polled.new, usize::try_from(wanted).is_ok_and(|wanted| polled.lines >= wanted)) {
                (true, _) => {}
                (false, true) => wanted = wanted.saturating_mul(2),
                (false, false) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// One poll. The server sends the lines as they are consumed, so a large transaction is never in memory. `None` if
    /// the capture has been closed.
    async fn poll(&self, peek: &str, read: &mut Position) -> Result<Option<Polled>, Fault> {
        let lines = self.client.query_raw(peek, std::iter::empty::<&str>()).await.map_err(|error| fault(&error))?;
        tokio::pin!(lines);
        let (mut reading, mut polled) = (Lines::default(), Polled::default());
        while let Some(line) = lines.try_next().await.map_err(|error| fault(&error))? {
            polled.lines += 1;
            let line: &str = line.try_get(0).map_err(|error| fault(&error))?;
            let part = reading.take(line).map_err(|error| Fault::new(FaultClass::Misconfigured, CONTEXT, error))?;
            // A transaction that was read before comes again until it is confirmed.
            let Some(part) = part.filter(|part| part.commit > *read) else { continue };
            if let Some(end) = part.end {
                (*read, polled.new) = (end, true);
            }
            if self.told.send(Ok(part)).await.is_err() {
                return Ok(None);
            }
        }
        Ok(Some(polled))
    }

    async fn rows(&self, sql: &str) -> Result<Vec<tokio_postgres::Row>, Fault> {
        self.client.query(sql, &[]).await.map_err(|error| fault(&error))
    }
}

fn fault(error: &tokio_postgres::Error) -> Fault {
    let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    Fault::new(FaultClass::Unavailable, CONTEXT, text)
}
