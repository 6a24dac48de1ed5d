//! Polls the log by SQL, for a plugin that the replication client does not support. The server decodes the read but
//! unconfirmed part of the log again with every poll, so the cost grows with the backlog of capture.

use std::time::Duration;

use chunk_sync_engine::ports::{Captured, Fault, FaultClass, Position};
use deadpool_postgres::{Client, ClientWrapper};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::wal2json::{Lines, options};
use super::{CONTEXT, PostgresRecords, literal};
use crate::postgres::fault::Error;

/// Changes requested per poll; doubled while so many are read and not confirmed.
const CHANGES: i32 = 4096;

/// Pause after a poll without new transactions.
const PAUSE: Duration = Duration::from_millis(200);

/// Most transactions read ahead of the consumer.
const AHEAD: usize = 256;

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
            client.batch_execute("SET TIME ZONE 'UTC'").await?;
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
        let options: Vec<String> =
            options.iter().map(|(name, value)| format!("'{name}', {}", literal(value))).collect();
        let reader = Reader { client, slot: literal(slot), options: options.join(", "), told, confirming };
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
                "SELECT data FROM pg_logical_slot_peek_changes({}, NULL, {wanted}, {})",
                self.slot, self.options
            );
            let lines = self.rows(&peek).await?;
            let (mut reading, mut new) = (Lines::default(), false);
            for line in &lines {
                let line: &str = line.try_get(0).map_err(|error| fault(&error))?;
                let captured = reading.take(line);
                let captured = captured.map_err(|error| Fault::new(FaultClass::Misconfigured, CONTEXT, error))?;
                if let Some(captured) = captured.filter(|captured| captured.end > read) {
                    (read, new) = (captured.end, true);
                    if self.told.send(Ok(captured)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            match (new, usize::try_from(wanted).is_ok_and(|wanted| lines.len() >= wanted)) {
                (true, _) => {}
                (false, true) => wanted = wanted.saturating_mul(2),
                (false, false) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn rows(&self, sql: &str) -> Result<Vec<tokio_postgres::Row>, Fault> {
        self.client.query(sql, &[]).await.map_err(|error| fault(&error))
    }
}

fn fault(error: &tokio_postgres::Error) -> Fault {
    let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    Fault::new(FaultClass::Unavailable, CONTEXT, text)
}
