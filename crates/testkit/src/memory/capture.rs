//! The log of the system of record in memory: foreign writes into its rows, and the confirmed position.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, FaultClass, Gap, Opened, Position, Positions, Source, Touch};
use chunk_sync_model::{State, Time};
use tokio::sync::Notify;

use super::MemoryRecords;

/// The log as one process sees it. Its clones are the same process.
#[derive(Clone)]
pub struct MemoryCapture {
    server: Arc<Server>,
    process: u64,
}

struct Server {
    log: Mutex<Log>,
    written: Notify,
}

#[derive(Default)]
struct Log {
    transactions: Vec<Captured>,
    confirmed: Position,
    /// The position that may have been confirmed; `None` before the first read.
    noted: Option<Position>,
    gap: Option<Gap>,
    /// Number of openings and losses.
    opening: u64,
    processes: u64,
    /// The only process that reads.
    reader: Option<u64>,
}

impl Default for MemoryCapture {
    fn default() -> Self {
        let server = Server { log: Mutex::default(), written: Notify::new() };
        Self { server: Arc::new(server), process: 0 }
    }
}

impl MemoryCapture {
    /// The same log as another process sees it.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut log = self.server.log.lock().unwrap();
        log.processes += 1;
        Self { server: Arc::clone(&self.server), process: log.processes }
    }

    /// Ends this process.
    pub fn end(&self) {
        let mut log = self.server.log.lock().unwrap();
        log.reader.take_if(|reader| *reader == self.process);
    }

    /// Writes a row as a foreign client, and commits.
    pub fn write(&self, records: &MemoryRecords, state: Arc<State>, at: Time) {
        let mut log = self.server.log.lock().unwrap();
        let id = state.chunk.id;
        let touch = if records.write_row(id, Some(state)) { Touch::Updated } else { Touch::Inserted };
        let end = Position(log.transactions.len() as u64 + 1);
        let (rows, commit, transaction) = (vec![(id, touch)], end, u32::try_from(end.0).ok());
        log.transactions.push(Captured { rows, truncated: false, at, commit, end: Some(end), transaction });
        drop(log);
        self.server.written.notify_waiters();
    }

    /// Drops the saved read position: unconfirmed transactions are lost. Has no effect before the first read, because a
    /// backfill covers earlier rows.
    pub fn lose(&self) {
        let mut log = self.server.log.lock().unwrap();
        if log.noted.is_none() {
            return;
        }
        log.confirmed = Position(log.transactions.len() as u64);
        log.reader = None;
        log.opening += 1;
        drop(log);
        self.server.written.notify_waiters();
    }

    /// Ends the reading; the next opening reports the gap.
    pub fn miss(&self, gap: Gap) {
        let mut log = self.server.log.lock().unwrap();
        (log.gap, log.reader) = (Some(gap), None);
        log.opening += 1;
        drop(log);
        self.server.written.notify_waiters();
    }

    /// Whether every transaction is confirmed.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let log = self.server.log.lock().unwrap();
        log.confirmed.0 == log.transactions.len() as u64
    }
}

struct Reader {
    opening: Arc<Opening>,
    process: u64,
    read: Position,
    /// Whether the rows of the next transaction were handed out, and its end was not.
    within: bool,
}

/// One opening of the log, by its number.
struct Opening {
    server: Arc<Server>,
    number: u64,
}

impl Opening {
    /// The log, unless it has been lost or opened again.
    fn log(&self) -> Result<MutexGuard<'_, Log>, Fault> {
        let log = self.server.log.lock().unwrap();
        if log.opening == self.number {
            return Ok(log);
        }
        Err(Fault::new(FaultClass::Busy, "memory", "the log was lost or opened again; open it"))
    }
}

impl Reader {
    /// The next part, if there is one: each transaction arrives as its rows and then its end.
    fn there(&mut self) -> Result<Option<Captured>, Fault> {
        let next = self.opening.log()?.transactions.get(self.read.0 as usize).cloned();
        Ok(next.map(|captured| self.part(captured)))
    }

    fn part(&mut self, captured: Captured) -> Captured {
        self.within = !self.within;
        if self.within {
            return Captured { end: None, ..captured };
        }
        self.read = captured.commit;
        Captured { rows: Vec::new(), truncated: false, ..captured }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut log = self.opening.server.log.lock().unwrap();
        log.reader.take_if(|reader| *reader == self.process);
    }
}

#[async_trait]
impl Capture for MemoryCapture {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let mut log = self.server.log.lock().unwrap();
        if log.reader.is_some() {
            return Err(Fault::new(FaultClass::Busy, "memory", "another process reads the log"));
        }
        log.reader = Some(self.process);
        if log.noted.is_some_and(|noted| log.confirmed > noted) {
            log.gap = Some(Gap::Dropped);
        }
        log.noted = Some(log.noted.map_or(log.confirmed, |noted| noted.max(log.confirmed)));
        log.opening += 1;
        let opening = Arc::new(Opening { server: Arc::clone(&self.server), number: log.opening });
        let source =
            Reader { opening: Arc::clone(&opening), process: self.process, read: log.confirmed, within: false };
        Ok(Opened { source: Box::new(source), positions: opening, gap: log.gap })
    }

    async fn heartbeat(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn lag(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Captured, Fault> {
        let server = Arc::clone(&self.opening.server);
        loop {
            let written = server.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if let Some(captured) = self.there()? {
                return Ok(captured);
            }
            written.await;
        }
    }

    fn confirm(&mut self, position: Position) {
        if let Ok(mut log) = self.opening.log() {
            log.confirmed = log.confirmed.max(position);
        }
    }
}

#[async_trait]
impl Positions for Opening {
    async fn note(&self, position: Position) -> Result<(), Fault> {
        let mut log = self.log()?;
        log.noted = log.noted.max(Some(position));
        Ok(())
    }

    async fn close_gap(&self) -> Result<(), Fault> {
        self.log()?.gap = None;
        Ok(())
    }
}
