//! The log of the system of record in memory: what others wrote into its rows, and how far it has been confirmed.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Capture, Captured, Fault, FaultClass, Position, Source, Touch};
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
    processes: u64,
    /// The one process that reads.
    reader: Option<u64>,
}

impl Default for MemoryCapture {
    fn default() -> Self {
        let server = Server { log: Mutex::default(), written: Notify::new() };
        Self { server: Arc::new(server), process: 0 }
    }
}

impl MemoryCapture {
    /// The same log as one more process sees it.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut log = self.server.log.lock().unwrap();
        log.processes += 1;
        Self { server: Arc::clone(&self.server), process: log.processes }
    }

    /// This process has ended, however it did.
    pub fn end(&self) {
        let mut log = self.server.log.lock().unwrap();
        log.reader.take_if(|reader| *reader == self.process);
    }

    /// Somebody else writes a row, and commits.
    pub fn write(&self, records: &MemoryRecords, state: Arc<State>, at: Time) {
        let mut log = self.server.log.lock().unwrap();
        let id = state.chunk.id;
        let touch = if records.write_row(id, Some(state)) { Touch::Updated } else { Touch::Inserted };
        let end = Position(log.transactions.len() as u64 + 1);
        log.transactions.push(Captured { rows: vec![(id, touch)], truncated: false, at, end });
        drop(log);
        self.server.written.notify_waiters();
    }

    /// Whether all that was written is confirmed.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let log = self.server.log.lock().unwrap();
        log.confirmed.0 == log.transactions.len() as u64
    }
}

struct Reader {
    server: Arc<Server>,
    process: u64,
    read: Position,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut log = self.server.log.lock().unwrap();
        log.reader.take_if(|reader| *reader == self.process);
    }
}

#[async_trait]
impl Capture for MemoryCapture {
    async fn prepare(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn open(&self) -> Result<Box<dyn Source>, Fault> {
        let mut log = self.server.log.lock().unwrap();
        if log.reader.is_some() {
            return Err(Fault::new(FaultClass::Busy, "memory", "somebody else reads the log"));
        }
        log.reader = Some(self.process);
        Ok(Box::new(Reader { server: Arc::clone(&self.server), process: self.process, read: log.confirmed }))
    }

    async fn beat(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn lag(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Captured, Fault> {
        loop {
            let written = self.server.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            let next = self.server.log.lock().unwrap().transactions.get(self.read.0 as usize).cloned();
            if let Some(captured) = next {
                self.read = captured.end;
                return Ok(captured);
            }
            written.await;
        }
    }

    fn confirm(&mut self, position: Position) {
        let mut log = self.server.log.lock().unwrap();
        log.confirmed = log.confirmed.max(position);
    }
}
